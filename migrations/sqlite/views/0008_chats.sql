-- chat_messages: messages of conversations between two accounts. A message counts as unread until
-- `read_position`. No event from
-- before this migration is of a conversation, so no view has to be made again.
CREATE TABLE chat_messages (
    message       INTEGER PRIMARY KEY,
    position      INTEGER NOT NULL,
    conversation  TEXT NOT NULL,
    sender        TEXT NOT NULL,
    recipient     TEXT NOT NULL,
    seq           INTEGER NOT NULL,
    random        INTEGER NOT NULL,
    time          INTEGER NOT NULL,
    kept          INTEGER NOT NULL,
    counted       INTEGER NOT NULL,
    unsynced      INTEGER NOT NULL,
    read_position INTEGER,
    withdrawn     INTEGER NOT NULL
) STRICT;
CREATE INDEX chat_messages_conversation ON chat_messages (conversation, time, seq, position);
CREATE INDEX chat_messages_unread ON chat_messages (recipient, position)
    WHERE counted = 1 AND read_position IS NULL;
CREATE INDEX chat_messages_read ON chat_messages (recipient, read_position) WHERE counted = 1;
