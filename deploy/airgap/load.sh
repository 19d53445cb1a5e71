#!/bin/sh
# 核对离线包，装入镜像。只用 sh、coreutils 和 ctr、skopeo、docker 三者之一；不联网。
set -eu
cd "$(dirname "$0")"

end() {
  printf '%s\n' "$1" >&2
  exit 1
}

[ $# -ge 1 ] || end "用法：./load.sh 清单校验值 [镜像库/项目]
  清单校验值   SHA256SUMS 的 SHA-256，写在交付单上，不随介质送达
  镜像库/项目  如 harbor.example/yiqi：装入该库（需要 skopeo，或 docker）；不写则装入本机的 containerd"

# 先核对，全部相符才动镜像。清单本身由交付单核对，否则改了文件的人也会改清单。
[ "$(sha256sum SHA256SUMS | cut -d ' ' -f 1)" = "$1" ] || end "SHA256SUMS 与交付单上的校验值不符，未装入任何镜像"
[ -z "$(find . ! -type f ! -type d)" ] || end "离线包中有链接或其他特殊文件，未装入任何镜像"
here=$(find . -type f ! -path ./SHA256SUMS | LC_ALL=C sort)
listed=$(cut -c 67- SHA256SUMS | LC_ALL=C sort)
[ "$here" = "$listed" ] || end "离线包中的文件与清单不一致（有多余或缺少的），未装入任何镜像"
sha256sum --check --quiet --strict SHA256SUMS || end "以上文件与清单不符，未装入任何镜像"
printf '核对无误：%s 个文件\n' "$(wc -l < SHA256SUMS)"

registry=${2:-}
listing=""
while read -r file name digest; do
  last=${name##*/}
  if [ -z "$registry" ]; then
    target=localhost/$last
    ctr -n k8s.io images import "images/$file.oci.tar"
    # 清单用摘要固定镜像时，containerd 按这个名字找；没有库名的，它会当成别处的。
    ctr -n k8s.io images tag --force "$name" "${target%:*}@$digest"
  else
    target=$registry/$last
    if command -v skopeo >/dev/null; then
      skopeo copy --preserve-digests "oci-archive:images/$file.oci.tar" "docker://$target"
    else
      docker load --input "images/$file.docker.tar.gz"
      docker tag "$name" "$target"
      docker push "$target"
      # docker 重新压缩各层，摘要因此是另一个；只有它推上去的才算。
      digest=$(docker inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$target" | grep "^${target%:*}@")
      digest=${digest#*@}
    fi
  fi
  printf '已装入 %s\n' "$target"
  listing="$listing  - name: ${last%:*}
    newName: ${target%:*}
    newTag: ${last##*:}
    digest: $digest
"
done < images/LIST
printf '\n接下来：以下各条替换 deploy/kustomize/components/images/kustomization.yaml 中同名的各条（离线包可只读，请在抄出的一份上改），\n'
printf '再 kubectl apply，见 deploy/README.md。用 install.yaml 的，在其中改同样的名称和摘要。\n\nimages:\n%s' "$listing"
[ -n "$registry" ] || printf '\n镜像只装入了本机：每个节点都要运行一次。\n'
