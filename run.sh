#!/usr/bin/env bash
# The whole story in commands: raw web pages go in, an aligned model and an honest report come out.
#
#   bash run.sh                 set up, then walk all seven chapters (27 minutes on 2 quiet cores)
#   bash run.sh quick           set up, then walk everything small (about 6 minutes, into out/quick)
#   bash run.sh test            set up, then run the tests
#   bash run.sh --minutes 20    the one dial: how long the main model may train (default 6)
#   bash run.sh --fresh         delete what the walk made before, then walk
#
# What is already made and up to date is skipped, so Ctrl-C and a second run go on where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

walk=full minutes=6 fresh=no
while [ $# -gt 0 ]; do
  case "$1" in
    test|quick) walk=$1 ;;
    --minutes) minutes=${2:?"--minutes needs a number"}; shift ;;
    --fresh) fresh=yes ;;
    *) sed -n '2,11p' "$0"; exit 2 ;;
  esac
  shift
done

# ---- set up: a virtual environment, PyTorch, and the rest of the six packages
if [ ! -e .venv/ready ] || [ requirements.txt -nt .venv/ready ]; then
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "error: Python 3.11 or newer is needed, and python3 is $(python3 --version)"; exit 1; }
  echo "setting up .venv: some minutes, once"
  python3 -m venv .venv
  # On Linux plain torch brings gigabytes of CUDA. Without a GPU take the small CPU build, and if
  # its index cannot be reached, the same version from the usual one.
  if [ "$(uname)" = Linux ] && ! command -v nvidia-smi > /dev/null; then
    .venv/bin/pip install --quiet --retries 1 --timeout 10 torch==2.13.0 \
      --index-url https://download.pytorch.org/whl/cpu 2> /dev/null ||
      .venv/bin/pip install --quiet torch==2.13.0
  fi
  .venv/bin/pip install --quiet -r requirements.txt
  touch .venv/ready
fi
source .venv/bin/activate
step() {
  local began=$SECONDS code=0
  printf '\n\033[1m$ %s\033[0m\n' "$*"
  "$@" || code=$?             # in "step ... ||" bash would not stop here by itself
  printf '(%d s)\n' $((SECONDS - began))
  return $code
}
# The walk has two lanes, so that two cores have work. `step` walks in the first. What the next steps
# do not need walks beside it in the second, one `aside` after another; `settle` waits for them all,
# shows what they said, and stops the walk if one failed.
asides=() lane=
aside() {
  local name before=$lane
  name=$(basename "$2" .py)
  printf '\n\033[1m$ %s &\033[0m\n' "$*"
  mkdir -p "$out/asides"
  { while [ -n "$before" ] && kill -0 "$before" 2> /dev/null; do sleep 0.2; done
    exec "$@"; } > "$out/asides/$name.txt" 2>&1 &
  lane=$! asides+=("$!:$name")
}
settle() {
  local one failed=
  for one in ${asides[@]+"${asides[@]}"}; do
    wait "${one%%:*}" || failed=yes
    printf '\n\033[1m%s\033[0m\n' "${one#*:}"
    tr '\r' '\n' < "$out/asides/${one#*:}.txt" | grep -v 'it/s\|s/it\|%|' || true
  done
  asides=() lane=
  [ -z "$failed" ] || exit 1
}
trap 'jobs -p | xargs kill 2> /dev/null || true' EXIT
# Threads that wait for each other sleep instead of spinning: on a machine with other programs two
# threads took 18 s for an update that takes 1.1 s so.
export OMP_WAIT_POLICY=passive

if [ $walk = test ]; then
  # Two processes side by side; the self-check at the end of the second uses all cores.
  house=$(mktemp) failed=0
  python -m pytest -q tests/07* tests/test_[!l]*.py > "$house" 2>&1 & aside=$!
  step python -m pytest -q tests/0[1-6]* tests/test_l*.py || failed=$?
  wait $aside || failed=$?
  cat "$house"
  [ $failed = 0 ] || exit $failed
  # Tests that fork ranks are skipped where torch sees a GPU: hide it for these.
  ! command -v nvidia-smi > /dev/null || CUDA_VISIBLE_DEVICES= step python -m pytest -q \
    tests/07_systems/test_{data_parallel,model_parallel,moe,train_distributed}.py
  exit
fi

quick= dial="--minutes $minutes"
if [ $walk = quick ]; then
  quick=--quick dial=
  export BUILD_LLM_OUT=$PWD/out/quick
fi
out=${BUILD_LLM_OUT:-$PWD/out}
[ $fresh = no ] || rm -rf "$out"/0* "$out"/claims "$out"/report.html

# ---- 1 and 2: tokens and data
aside python 01_tokenizer/train_tokenizer.py $quick
step python 02_data/crawl.py $quick
settle
step python 02_data/build_corpus.py $quick
aside python 02_data/measure_filters.py $quick
aside python 02_data/mix_domains.py $quick

# ---- 3 and 4: forecast the run, then train it
step python 03_scaling/sweep.py $quick
settle
step python 03_scaling/plan.py $quick $dial
step python 04_model_pretrain/pretrain.py $quick

# ---- 5: from a predictor to an assistant; beside it, what larger experiments have left on record
aside python 03_scaling/hyperparameters.py --recorded
aside python 03_scaling/rivals.py --recorded
aside python 04_model_pretrain/vocabularies.py --recorded
aside python 04_model_pretrain/data_quality.py --recorded
aside python 04_model_pretrain/architectures.py --recorded
step python 05_posttrain/instructions.py $quick
step python 05_posttrain/sft.py $quick
step python 05_posttrain/preferences.py $quick
aside python 05_posttrain/reward_model.py $quick
step python 05_posttrain/dpo.py $quick
settle

# ---- 5 to 7 in two lanes: align it, prove that it works, make it feasible; then compare and report
aside python 05_posttrain/ppo.py $quick
aside python 06_eval/evaluate.py $quick             # the base, SFT, DPO and PPO
aside python 05_posttrain/recorded_claims.py
step python 05_posttrain/rejection_sampling.py $quick
step python 05_posttrain/reinforce.py $quick
step python 07_systems/benchmark.py $quick
settle
aside python 05_posttrain/right_answers.py $quick
step python 05_posttrain/compare.py $quick
settle
step python 06_eval/report.py $quick

printf '\nThe report: %s\n' "$out/report.html"
echo "Talk to it: ${quick:+BUILD_LLM_OUT=out/quick }.venv/bin/python 05_posttrain/chat.py"
