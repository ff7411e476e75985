#!/usr/bin/env bash
# guess: gc.freeze() before a fork is harmless. Python's documentation advises it for servers that load once and fork their
#        workers, and "import triton" alone ends without a word.
# seen:  since Triton's bindings are nanobind's, a process that has imported triton.language and froze ends with tens of lines on
#        stderr, "nanobind: leaked 4 instances!", dozens of types and hundreds of functions, "likely caused by a reference counting
#        issue in the binding code". There is none: what is frozen is not collected at the exit, so nanobind still sees it. The exit
#        code stays 0. After gc.unfreeze() the exit is silent. Triton 3.4, whose bindings are pybind11's, says nothing in either case.
# versions and day: triton 3.9.0 and 3.4.0, Python 3.11; 2026-12-01.
# who meets it: whoever forks workers (graders, data loaders, servers) from a process that has loaded torch and Triton, and reads
#        stderr, or a test that asserts it is empty. Unfreeze in the parent before it ends; children that end by os._exit are silent.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
said() {                                # said VERSION CODE: how many lines the exit writes to stderr
  venv-$1/bin/python -c "import gc, triton, triton.language; $2" 2> err.txt
  grep -c nanobind err.txt || true
}
for version in 3.9.0 3.4.0; do
  python3 -m venv venv-$version
  venv-$version/bin/pip install -q triton==$version setuptools 2> pip.log || { cat pip.log; exit 1; }
  plain=$(said $version "pass") frozen=$(said $version "gc.freeze()") unfrozen=$(said $version "gc.freeze(); gc.unfreeze()")
  echo "triton $version, lines of nanobind at the exit: plain $plain, frozen $frozen, frozen and unfrozen $unfrozen"
  [ "$plain" = 0 ] && [ "$unfrozen" = 0 ]
  if [ $version = 3.9.0 ]; then [ "$frozen" -gt 0 ]; else [ "$frozen" = 0 ]; fi
done
echo "as written on top"
