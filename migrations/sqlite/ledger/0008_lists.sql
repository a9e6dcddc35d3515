-- Lists of an app's users of every protocol, and of its devices by package, in order.
CREATE INDEX accounts_of_app ON accounts (app, from_position);
DROP INDEX devices_package;
CREATE INDEX devices_package ON devices (app, app_package, number);
