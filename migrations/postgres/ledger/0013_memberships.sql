-- Whoever was in a label when it was deleted left it then. Until now those rows stayed open.
UPDATE label_members SET to_position =
    (SELECT l.to_position FROM labels l WHERE l.label = label_members.label)
WHERE to_position IS NULL
    AND label IN (SELECT label FROM labels WHERE to_position IS NOT NULL);
