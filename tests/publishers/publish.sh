#!/bin/sh
# Publish one event to Yiqi through the HTTP door with curl, and print its answer.
#
#     DOOR_URL=https://door.example DOOR_CA=ca.pem DOOR_TOKEN=440106.token sh publish.sh event.json
#
# DOOR_TOKEN is the file with the token you were given. Run it again with the same file whenever you are not sure: same id,
# same event, one effect. Ends with 0: accepted (perhaps with warnings), 1: rejected, 2: never stored, 3: no answer yet.
set -eu
event=$1
wait=${DOOR_WAIT:-30}
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

# The token goes in by a pipe: on the command line everybody on this machine could read it.
door() {
  printf 'Authorization: Bearer %s' "$(cat "$DOOR_TOKEN")" |
    curl --silent --show-error --header @- ${DOOR_CA:+--cacert "$DOOR_CA"} --max-time 20 \
      --output "$answer" --write-out '%{http_code}' "$@"
}

# 202: stored. Everything else that is not an outage (5xx, 429, no connection) says in the body what is wrong.
code=$(door --retry 4 --retry-connrefused --header 'Content-Type: application/cloudevents+json' \
  --data-binary "@$event" "$DOOR_URL/events") || exit 2
if [ "$code" != 202 ]; then
  echo "the door refuses ($code):" >&2
  cat "$answer" >&2
  exit 2
fi
echo "$(cat "$answer")" >&2 # {"id": …, "seq": …, "duplicate": …, "status": "/events/<id>"}
status=$(sed -n 's/.*"status": *"\([^"]*\)".*/\1/p' "$answer")

# Stored is not accepted: ask for the answer until there is one.
while [ "$wait" -gt 0 ]; do
  code=$(door --retry 3 "$DOOR_URL$status") || exit 3
  case $(cat "$answer") in
    *'"state":"accepted"'* | *'"state": "accepted"'*) cat "$answer"; exit 0 ;;
    *'"state":"rejected"'* | *'"state": "rejected"'*) cat "$answer"; exit 1 ;;
  esac
  sleep 1
  wait=$((wait - 1))
done
echo "no answer yet; it is stored and will be judged, so run this again later" >&2
exit 3
