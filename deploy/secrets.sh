#!/bin/sh
# 生成部署所需的全部密钥：总线账户和种子、TLS 证书、数据库口令，写成一份 secrets.yaml。需要 yiqi、openssl、kubectl，不连集群。
# 再次运行时保留已有的，只补缺少的；上次的参数记在 文件夹/settings，不必再写。写出的除 accounts.conf、public.txt 外都是秘密，请放在加密的地方。
#
#   deploy/secrets.sh 文件夹 [数据库主机，默认 yiqi-postgres-rw（组件 postgres）；overlay dev 用 postgres]
#   NATS_NAMES="bus.city.internal"  单位从外面连接总线所用的域名，空格分隔
#   DATABASE=yiqi  数据库名
#   YIQI_AGENCIES=文件夹  贵市自己的名录：其中的单位才有账户
#   DOOR_NAMES="door.city.internal"  用 HTTP 接口（组件 door）的：它的域名，空格分隔
# 换总线的证书：删去 文件夹/tls/tls.crt 再运行；CA 不变，别人什么也不用改。HTTP 接口的是 文件夹/door/tls.crt。
set -eu
umask 077
out=$1
services="intake review notify export"
mkdir -p "$out/passwords" "$out/urls" "$out/tls"

# What it was told before: who runs it again, for a new agency or certificate, need not know.
kept() { if [ -s "$out/settings" ]; then sed -n "s/^$1=//p" "$out/settings"; fi; }
host=${2:-$(kept host)}
host=${host:-yiqi-postgres-rw}
database=${DATABASE:-$(kept database)}
database=${database:-yiqi}
names=${NATS_NAMES:-$(kept names)}
agencies=${YIQI_AGENCIES:-$(kept agencies)}
doors=${DOOR_NAMES:-$(kept doors)}
if [ -n "$agencies" ]; then
  YIQI_AGENCIES=$(readlink -f "$agencies")
  export YIQI_AGENCIES
fi
printf 'host=%s\ndatabase=%s\nnames=%s\nagencies=%s\ndoors=%s\n' "$host" "$database" "$names" "${YIQI_AGENCIES:-}" "$doors" \
  >"$out/settings"

yiqi nats config --out "$out/nats" >/dev/null

once() { [ -s "$1" ] || openssl rand -hex 24 | tr -d '\n' >"$1"; }
for who in migrate $services; do
  once "$out/passwords/$who"
  role=yiqi_$who
  [ "$who" = migrate ] && role=yiqi
  printf %s "$role" >"$out/passwords/$who.role"
  printf 'postgresql://%s:%s@%s:5432/%s' "$role" "$(cat "$out/passwords/$who")" "$host" "$database" >"$out/urls/$who"
done
once "$out/passwords/bounce"
for who in $services; do
  printf "alter role yiqi_%s password '%s';\n" "$who" "$(cat "$out/passwords/$who")"
done >"$out/passwords.sql"
# Of a PostgreSQL of one's own: all that its superuser does. Any locale will do, people's order is made by Yiqi itself.
{
  printf "create role yiqi login password '%s';\n" "$(cat "$out/passwords/migrate")"
  printf "create database %s owner yiqi encoding 'UTF8' locale 'C' template template0;\n" "$database"
  printf '\\connect %s\n' "$database"
  cat "$(dirname "$0")/kustomize/components/roles/roles.sql" "$out/passwords.sql"
} >"$out/database.sql"

if [ ! -s "$out/tls/tls.crt" ]; then
  all="DNS:nats,DNS:nats.yiqi,DNS:nats.yiqi.svc,DNS:nats.yiqi.svc.cluster.local"
  for n in 0 1 2; do all="$all,DNS:nats-$n.nats-headless,DNS:nats-$n.nats-headless.yiqi.svc.cluster.local"; done
  for one in $names; do all="$all,DNS:$one"; done
  if [ ! -s "$out/tls/ca.crt" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 3650 \
      -subj "/CN=yiqi NATS CA" -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
      -keyout "$out/tls/ca.key" -out "$out/tls/ca.crt" 2>/dev/null
  fi
  [ -s "$out/tls/ca.key" ] || { echo "没有 $out/tls/ca.key：没有它不能签发新的证书" >&2; exit 1; }
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -subj "/CN=nats" \
    -keyout "$out/tls/tls.key" -out "$out/tls/tls.csr" 2>/dev/null
  # For both sides: the nodes of the cluster are each other's clients.
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=critical,digitalSignature\n' "$all" \
    >"$out/tls/tls.ext"
  openssl x509 -req -in "$out/tls/tls.csr" -CA "$out/tls/ca.crt" -CAkey "$out/tls/ca.key" -CAcreateserial \
    -days 397 -sha256 -extfile "$out/tls/tls.ext" -out "$out/tls/tls.crt" 2>/dev/null
  rm "$out/tls/tls.csr" "$out/tls/tls.ext"
fi

if [ -n "$doors" ]; then
  mkdir -p "$out/door"
  [ -e "$out/door/publishers" ] || : >"$out/door/publishers" # lines of `yiqi publisher token` are added here
  if [ ! -s "$out/door/tls.crt" ]; then
    all=""
    for one in $doors; do all="$all,DNS:$one"; done
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -subj "/CN=door" \
      -keyout "$out/door/tls.key" -out "$out/door/tls.csr" 2>/dev/null
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nkeyUsage=critical,digitalSignature\n' "${all#,}" \
      >"$out/door/tls.ext"
    openssl x509 -req -in "$out/door/tls.csr" -CA "$out/tls/ca.crt" -CAkey "$out/tls/ca.key" -CAcreateserial \
      -days 397 -sha256 -extfile "$out/door/tls.ext" -out "$out/door/tls.crt" 2>/dev/null
    rm "$out/door/tls.csr" "$out/door/tls.ext"
  fi
fi

make() { # kind, name, options: one object, without asking a cluster
  kind=$1 name=$2
  shift 2
  echo ---
  # shellcheck disable=SC2086 - "secret generic" is two words
  kubectl create $kind "$name" --namespace yiqi --dry-run=client --output yaml "$@"
}
{
  for who in $services; do
    more=""
    [ "$who" = notify ] && more="--from-file=bounce-secret=$out/passwords/bounce"
    # Of a relay that asks who we are: put them into these two files.
    for key in user password; do
      [ "$who" = notify ] && [ -s "$out/smtp/$key" ] && more="$more --from-file=smtp-$key=$out/smtp/$key"
    done
    # shellcheck disable=SC2086
    make "secret generic" "yiqi-$who" --type kubernetes.io/basic-auth \
      "--from-file=username=$out/passwords/$who.role" "--from-file=password=$out/passwords/$who" \
      "--from-file=database-url=$out/urls/$who" "--from-file=seed=$out/nats/seeds/$who.nk" $more
  done
  make "secret generic" yiqi-migrate --type kubernetes.io/basic-auth \
    "--from-file=username=$out/passwords/migrate.role" "--from-file=password=$out/passwords/migrate" \
    "--from-file=database-url=$out/urls/migrate"
  make "secret generic" yiqi-provision "--from-file=seed=$out/nats/seeds/provisioner.nk"
  make "secret generic" yiqi-operate "--from-file=$out/nats/seeds/operator.nk" \
    "--from-file=$out/nats/seeds/provisioner.nk" "--from-file=$out/nats/seeds/desk.nk"
  make "secret generic" nats-tls --type kubernetes.io/tls "--from-file=ca.crt=$out/tls/ca.crt" \
    "--from-file=tls.crt=$out/tls/tls.crt" "--from-file=tls.key=$out/tls/tls.key"
  if [ -n "$doors" ]; then
    make "secret generic" yiqi-door "--from-file=seed=$out/nats/seeds/door.nk" "--from-file=publishers=$out/door/publishers"
    make "secret generic" yiqi-door-tls --type kubernetes.io/tls "--from-file=ca.crt=$out/tls/ca.crt" \
      "--from-file=tls.crt=$out/door/tls.crt" "--from-file=tls.key=$out/door/tls.key"
  fi
  make configmap nats-accounts "--from-file=accounts.conf=$out/nats/accounts.conf"
} >"$out/secrets.yaml"

printf '接下来：\n'
printf '1. kubectl create namespace yiqi（已有则免）；kubectl apply --server-side -f %s；\n' "$out/secrets.yaml"
printf '2. 自备 PostgreSQL 的：以超级用户运行一次 psql -v ON_ERROR_STOP=1 -f %s；\n' "$out/database.sql"
printf '3. %s 中各单位的种子交给该单位后删除；\n' "$out/nats/seeds"
printf '4. %s 整个加密留存：加单位、升级、换证书都要在它上面再运行；空的文件夹会给所有人换钥匙。\n' "$out"
