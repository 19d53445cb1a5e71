# The image runs this once, in an empty data directory.
set -eu
{
  echo "create role yiqi login password '$MIGRATE'; create database yiqi owner yiqi locale_provider builtin builtin_locale 'C.UTF-8' template template0;"
  echo '\connect yiqi'
  cat /etc/roles/roles.sql
  echo "alter role yiqi_intake password '$INTAKE'; alter role yiqi_review password '$REVIEW';"
  echo "alter role yiqi_notify password '$NOTIFY'; alter role yiqi_export password '$EXPORT';"
} | psql --no-psqlrc --set=ON_ERROR_STOP=1 --username postgres
