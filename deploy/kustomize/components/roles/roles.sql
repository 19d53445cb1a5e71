-- Once, as superuser, in the database of Yiqi: its owner makes the schemas and says what a role may do there.
-- Of PostgreSQL 16 or newer, where whoever changes a role must be its administrator. Passwords are not set here.
alter role yiqi createrole;
create role yiqi_intake login;
create role yiqi_review login;
create role yiqi_notify login;
create role yiqi_export login;
grant yiqi_intake, yiqi_review, yiqi_notify, yiqi_export to yiqi with admin true, inherit false, set false;
