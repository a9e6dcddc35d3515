-- chat_messages: messages of conversations between two accounts. A message counts as unread until
-- `read_position`. No event from
-- before this migration is of a conversation, so no view has to be made again.
CREATE TABLE chat_messages (
    message       BIGINT PRIMARY KEY,
    position      BIGINT NOT NULL,
    conversation  TEXT NOT NULL,
    sender        TEXT NOT NULL,
    recipient     TEXT NOT NULL,
    seq           BIGINT NOT NULL,
    random        BIGINT NOT NULL,
    time          BIGINT NOT NULL,
    kept          BIGINT NOT NULL,
    counted       BIGINT NOT NULL,
    unsynced      BIGINT NOT NULL,
    read_position BIGINT,
    withdrawn     BIGINT NOT NULL
);
CREATE INDEX chat_messages_conversation ON chat_messages (conversation, time, seq, position);
CREATE INDEX chat_messages_unread ON chat_messages (recipient, position)
    WHERE counted = 1 AND read_position IS NULL;
CREATE INDEX chat_messages_read ON chat_messages (recipient, read_position) WHERE counted = 1;
