"""What our own longer runs measured, for the report, where this machine has measured nothing yet.

    python 05_posttrain/recorded_claims.py        # at once

The walk has time for one seed of the main comparison. The experiments with several seeds were run
once and are kept in 05_posttrain/recorded, each with the command that repeats it. A recorded claim
says that it is one, and never replaces a claim that was measured here. Reads
05_posttrain/recorded; writes the claims, and frontier_seeds.png with the runs of rlhf-prefers.
"""

from pathlib import Path

from alignment_figures import draw_center
from artifacts import CommandLine, command, out, read_json, record_claim, shown
from training_stage import result

RECORDED = Path(__file__).resolve().parent / "recorded"


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--recorded", type=Path, default=RECORDED, help="folder of recorded runs")
    args = parser.parse_args()
    for path in sorted(args.recorded.glob("*.json")):
        record = read_json(path, "05_posttrain/experiment.py")
        claim, target = record.get("claim"), out("claims", path.name)
        if not claim:
            continue
        if target.exists() and not read_json(target, "").get("details", {}).get("recorded"):
            print(f"{path.stem}: measured here, the recorded run is not needed")
            continue
        claim["measured"] = f"recorded run, {record['note']}. {claim['measured']}"
        record_claim(path.stem, **claim, details={"recorded": True})
        print(f"{path.stem}: {claim['verdict']} (recorded)")
    runs = read_json(args.recorded / "rlhf-prefers.json", "05_posttrain/experiment.py").get("runs")
    if runs:
        draw_center(runs, result("frontier_seeds.png"))
        print(f"wrote {shown(result('frontier_seeds.png'))}: {len(runs)} recorded seeds")


if __name__ == "__main__":
    command(main)
