# shellcheck shell=bash
# Files of a Hugging Face model by HTTP: resumed by byte range, checked before they get their name.
# Sourced by scripts/fetch-model after common.sh.

# hub_etag PART: the entity tag that PART's bytes came with, from the header of the answer, which is on
# disk before they are. The last answer counts, as earlier ones are redirects. A weak tag does not promise
# equal bytes, so what has only such a one is never continued.
hub_etag() {
  local tag
  tag=$(awk 'tolower($1) ~ /^http\// { tag = "" } tolower($1) == "etag:" { tag = $2 }
    END { sub(/\r$/, "", tag); if (tag !~ /^W\//) print tag }' "$1.headers" 2>/dev/null || true)
  # An answer without a tag says nothing about the bytes of earlier ones.
  if [ -n "$tag" ]; then printf '%s\n' "$tag" >"$1.etag"; fi
  cat "$1.etag" 2>/dev/null || true
}

# hub_get URL PART: brings PART to completion; returns curl's exit code and sets HUB_STATUS.
#
# A partial file is continued only while the server still has the same file: If-Range with the entity
# tag of the first answer makes a server that has another one send it whole, and curl then refuses to
# append (exit code 33).
hub_get() {
  local url=$1 part=$2 config=$2.curl code=0 etag
  : >"$config"
  chmod 600 "$config"
  # Through a file, not an argument: arguments are there for every user of the machine to see.
  if [ -n "${HF_TOKEN:-}" ]; then
    printf 'header = "Authorization: Bearer %s"\n' "$HF_TOKEN" >"$config"
  fi
  etag=$(hub_etag "$part")
  if [ -s "$part" ] && [ -n "$etag" ]; then
    printf 'header = "If-Range: %s"\n' "${etag//\"/\\\"}" >>"$config"
  else
    rm -f "$part" "$part.etag"
  fi
  HUB_STATUS=$(curl --config "$config" --location --fail --silent --show-error \
    --connect-timeout 30 --speed-limit 1 --speed-time 60 --continue-at - \
    --dump-header "$part.headers" --write-out '%{http_code}' --output "$part" "$url" 2>"$part.message") || code=$?
  rm -f "$config"
  return "$code"
}

# hub_explain ID FILE MESSAGE: what an unsuccessful answer means, for a person.
hub_explain() {
  case $HUB_STATUS in
    401 | 403)
      say "$1: the server answered $HUB_STATUS for $2: no such model, or a gated or private one;" \
        "set HF_TOKEN to a token that may read it"
      ;;
    000 | 2??) say "$1: $2 did not arrive whole: $3" ;;
    *) say "$1: the server answered $HUB_STATUS for $2: $3" ;;
  esac
}

# What hub_file returns when the server has no such file, which for some files is an answer.
HUB_ABSENT=44

# hub_file ID REVISION FILE DIR: succeeds when DIR/FILE is there and sound.
hub_file() {
  local id=$1 revision=$2 file=$3 dir=$4 url attempt part sum code
  part=$dir/.partial/$file
  url=${HF_ENDPOINT:-https://huggingface.co}
  url=${url%/}/$id/resolve/$revision/$file
  mkdir -p "$dir/.partial"
  for attempt in 1 2 3 4; do
    code=0
    hub_get "$url" "$part" || code=$?
    if [ "$code" -eq 0 ]; then
      sum=$(awk 'tolower($1) == "x-linked-etag:" { gsub(/["\r]/, "", $2); print $2 }' "$part.headers" | tail -n 1)
      code=0
      node "$ROOT/scripts/lib/verify-model-file.mjs" "$part" "$file" "$sum" || code=1
      [ "$code" -ne 0 ] || mv "$part" "$dir/$file"
      rm -f "$part" "$part".*
      return "$code"
    fi
    case $code,$HUB_STATUS in
      33,* | *,416) rm -f "$part" ;; # no ranges here, or another file than before: from the start
      *,404)
        rm -f "$part" "$part".*
        return "$HUB_ABSENT"
        ;;
      *)
        hub_explain "$id" "$file" "$(cat "$part.message")"
        case $HUB_STATUS in 408 | 429) ;; 4??) return 1 ;; esac
        sleep "$attempt"
        ;;
    esac
  done
  return 1
}

# hub_sound DIR: whether every file that was fetched before still has its sum.
hub_sound() {
  [ -s "$1/SHA256SUMS" ] || return 1
  (
    cd "$1" || exit
    if have sha256sum; then sha256sum --check --status SHA256SUMS; else shasum -a 256 --check --status SHA256SUMS; fi
  )
}

# fetch_hub OWNER/NAME[@REVISION] MODELS: the checkpoint directory, its path on stdout.
fetch_hub() {
  local id=${1%@*} revision=main dir file status fetched=() shards
  if [ "$id" != "$1" ]; then revision=${1##*@}; fi
  dir=$2/$1
  need curl "it fetches hub files"
  need node "install Node.js 20 or later"
  if hub_sound "$dir"; then
    printf '%s\n' "$dir"
    return
  fi
  step "$id from ${HF_ENDPOINT:-the Hugging Face hub}"
  mkdir -p "$dir"
  rm -f "$dir/SHA256SUMS"

  for file in config.json tokenizer.json tokenizer_config.json generation_config.json chat_template.jinja \
    model.safetensors model.safetensors.index.json; do
    # A single file of weights needs no index.
    if [ "$file" = model.safetensors.index.json ] && [ -f "$dir/model.safetensors" ]; then continue; fi
    say "  $file"
    status=0
    hub_file "$id" "$revision" "$file" "$dir" || status=$?
    case $status,$file in
      0,*) fetched+=("$file") ;;
      "$HUB_ABSENT",config.json | "$HUB_ABSENT",tokenizer.json) die "$id: the server has no $file (404)" ;;
      "$HUB_ABSENT",model.safetensors.index.json) die "$id: the server has neither model.safetensors nor its index (404)" ;;
      "$HUB_ABSENT",*) rm -f "$dir/$file" ;;
      *) die "$id: $file was refused; what came before is kept, run again to go on" ;;
    esac
  done
  if [ -f "$dir/model.safetensors.index.json" ]; then
    shards=$(node -e 'const { weight_map } = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8"));
      console.log([...new Set(Object.values(weight_map))].sort().join("\n"))' "$dir/model.safetensors.index.json")
    for file in $shards; do
      case $file in */* | .*) die "$id: the index names $file, which is no file name" ;; esac
      say "  $file"
      [ -f "$dir/$file" ] || hub_file "$id" "$revision" "$file" "$dir" ||
        die "$id: $file could not be fetched; run again to go on"
      fetched+=("$file")
    done
  fi
  rm -rf "$dir/.partial"
  for file in "${fetched[@]}"; do
    printf '%s  %s\n' "$(sha256_of "$dir/$file")" "$file"
  done >"$dir/SHA256SUMS.part"
  mv "$dir/SHA256SUMS.part" "$dir/SHA256SUMS"
  printf '%s\n' "$dir"
}
