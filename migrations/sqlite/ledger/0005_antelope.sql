-- Antelope devices have a number, which is unique in the app.
CREATE UNIQUE INDEX devices_cid ON devices (app, client_id)
    WHERE protocol = 'antelope' AND to_position IS NULL;
-- Pages of an app's Antelope devices, and their number.
CREATE INDEX devices_antelope ON devices (app, number)
    WHERE protocol = 'antelope' AND to_position IS NULL;
