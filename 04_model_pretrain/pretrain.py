"""Train the base model: exactly the plan of chapter 3, stoppable at any moment.

    python 04_model_pretrain/pretrain.py

reads out/03_scaling/plan.json, out/02_data/{train,val}.bin and index.json, out/01_tokenizer/
tokenizer.json; writes out/04_model_pretrain/base.pt, log.jsonl, samples.jsonl, timing.json,
loss.png and result.json, with the loss beside its forecast and beside a 5-gram model's.
Takes the minutes that the plan was made for. Ctrl-C, SIGTERM, even SIGKILL: the same command goes
on, and on a CPU the log of a resumed run equals that of an undisturbed one byte for byte.
Flags replace values of the plan; with --tokens there need be no plan at all.
A GPU is used if there is one; several: torchrun --nproc-per-node 8 04_model_pretrain/pretrain.py
"""

import argparse
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")    # threads that wait, sleep (see run.sh)
import torch
from tqdm import tqdm

from artifacts import BadInput, CommandLine, Job, command, need, out, shown, within, write_json
from batches import PackedBatches, Shard
from bpe import Tokenizer
from copying import SayTwice, copying_loss
from checkpoint import file_digest, save_checkpoint
from flop_rate import flops_per_token, measured_peak
from generate import generate
from gpt import GPT
from held_out import LN2, Evaluation, held_out_bits
from machine import fitted
from model_families import PORTABLE
from plan_file import Plan, make_plan
from ranks import Ranks, join
from run_files import Journal, RunState
from training_loop import NonFinite, SpikeGuard, make_optimizers, training_steps
from verdicts import check_forecast, draw_copying, draw_loss, ngram_scores, record_claims

PROMPTS = ("", "argsort(a, axis=-1, kind=None)\n", "Return the ", "Parameters\n----------\nx : ")
SLOWER = 0.87           # of the planned speed: evaluations and checkpoints take their time too
RESULTS = ("base.pt", "log.jsonl", "samples.jsonl", "timing.json", "result.json", "loss.png",
           "copying.png")


def parse() -> argparse.Namespace:
    """The command line: files, values in place of the plan's, and how to run."""
    parser = CommandLine(__doc__)
    files = parser.add_argument_group("files")
    files.add_argument("--plan", default=out("03_scaling", "plan.json"))
    files.add_argument("--data", default=out("02_data"), help="folder of the token shards")
    files.add_argument("--tokenizer", default=out("01_tokenizer", "tokenizer.json"))
    files.add_argument("--out", default=out("04_model_pretrain"), help="folder for the results")
    model = parser.add_argument_group("in place of the plan's values")
    for name in ("layers", "width", "heads", "sequence-length", "ngram-rows"):
        model.add_argument(f"--{name}", type=int)
    model.add_argument("--shape", choices=tuple(PORTABLE), help="a published family's architecture,"
                       " which export.py can write for other programs; default: the plan's own")
    model.add_argument("--tokens", type=within(int, low=1),
                       help="to train on; makes a plan needless")
    model.add_argument("--rows", type=within(int, low=1), help="sequences per batch")
    model.add_argument("--learning-rate", type=within(above=0), help="peak rate of the recipe")
    model.add_argument("--precision", choices=("fp32", "bf16"))
    model.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None,
                       help="torch.compile, or not")
    model.add_argument("--threads", type=within(int, low=1))
    model.add_argument("--seed", type=int)
    run = parser.add_argument_group("the run")
    run.add_argument("--device", default="auto", help="cpu or cuda; auto: a GPU if any")
    run.add_argument("--accumulate", type=within(int, low=0), default=0,
                     help="parts per batch; 0: about 1,024 tokens each on a CPU, one on a GPU")
    run.add_argument("--checkpoint-seconds", type=within(low=0), default=60,
                     help="seconds between checkpoints")
    run.add_argument("--evaluations", type=within(int, low=0), default=6, help="during training")
    run.add_argument("--quick", action="store_true", help="fewer evaluations, shorter samples")
    run.add_argument("--fresh", action="store_true", help="begin again, even if up to date")
    return parser.parse_args()


class Stop:
    """Turns SIGTERM and Ctrl-C into a wish that is granted between two updates."""

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.wish)

    def wish(self, number: int, frame) -> None:
        """Note the first signal; a second Ctrl-C does not wait."""
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


class Recorder:
    """What happens between two updates: log, progress bar, evaluation, samples, checkpoint."""

    def __init__(self, plan: Plan, args: argparse.Namespace, ranks: Ranks, model: GPT,
                 state: RunState, lengths: dict) -> None:
        self.plan, self.args, self.ranks, self.model, self.state = plan, args, ranks, model, state
        self.journals = {name: Journal(Path(args.out) / f"{name}.jsonl", lengths.get(name, 0))
                         for name in ("log", "samples")} if ranks.first else {}
        self.bar = tqdm(total=plan.steps, initial=state.step, unit="step", desc="pretrain",
                        smoothing=0.05, disable=not ranks.first)
        self.evaluate_every = max(1, plan.steps // max(1, args.evaluations))
        self.sample_steps = {max(1, round(plan.steps * share)) for share in (0.01, 0.1, 0.3, 1.0)}
        self.flops = flops_per_token(model)
        self.peak = measured_peak(ranks.device, plan.precision) * ranks.world
        self.first_step, self.before = state.step, state.seconds
        self.began = self.saved = time.monotonic()

    def speed(self) -> float:
        """Tokens per second of this sitting, evaluations and samples included."""
        tokens = (self.state.step - self.first_step) * self.plan.tokens / self.plan.steps
        return tokens / max(1e-9, time.monotonic() - self.began)

    def behind(self, speed: float) -> str:
        """Words for the bar if the run is over a quarter slower than planned. The plan says what
        the machine can do when it is free; a busy one takes longer and computes the same."""
        times = SLOWER * self.plan.speed / speed
        return f", {times:.1f} x the planned time (other programs?)" if times > 1.25 else ""

    def after_update(self, record: dict, evaluation: Evaluation, tokenizer: Tokenizer) -> None:
        """Note one update, and do what is due after it."""
        step = self.state.step = record["step"]
        self.state.seconds = self.before + time.monotonic() - self.began
        if not self.ranks.first:
            return
        note = {"step": step, "tokens": step * self.plan.tokens // self.plan.steps}
        note |= {name: round(record[name], 6) for name in ("loss", "lr", "grad_norm")}
        self.journals["log"].write(note | ({"skipped": True} if record["skipped"] else {}))
        speed = self.speed()
        self.bar.update()
        self.bar.set_postfix_str(f"loss {record['loss']:.3f}, {speed:,.0f} tokens/s, MFU "
                                 f"{speed * self.flops / self.peak:.0%}{self.behind(speed)}",
                                 refresh=False)
        if step % self.evaluate_every == 0 and step < self.plan.steps:
            self.journals["log"].write({"step": step} | evaluation(self.model)
                                       | copying_loss(self.model))
        if step in self.sample_steps:
            self.sample(tokenizer)

    def sample(self, tokenizer: Tokenizer) -> None:
        """Let the model continue the fixed prompts, seeded by the step, into samples.jsonl."""
        step, end = self.state.step, tokenizer.special_tokens["<|endoftext|>"]
        generator = torch.Generator(self.ranks.device).manual_seed(step)
        self.model.eval()
        for prompt in PROMPTS:
            ids = [end] + list(tokenizer.encode(prompt))
            new = list(generate(self.model, ids, 40 if self.args.quick else 100, 0.8, top_p=0.95,
                                repetition_penalty=1.2, no_repeat=5, stop=(end,),
                                generator=generator))
            self.journals["samples"].write({
                "step": step, "fraction": round(step / self.plan.steps, 4), "prompt": prompt,
                "text": tokenizer.decode(new)})

    def save(self, optimizers: list, guard: SpikeGuard) -> None:
        """Write the checkpoint of this moment."""
        if self.ranks.first:
            self.state.save(self.model, optimizers, guard, self.journals)
        self.saved = time.monotonic()

    def timing(self) -> dict:
        """What the clock said: kept apart from the log, which is the same in every run."""
        return {"seconds": round(self.state.seconds, 1), "tokens_per_second": self.speed(),
                "mfu": self.speed() * self.flops / self.peak, "peak_flops": self.peak,
                "ranks": self.ranks.world, "threads": torch.get_num_threads()}


def train_plan(plan: Plan, args: argparse.Namespace, ranks: Ranks, train: SayTwice,
               evaluation: Evaluation, tokenizer: Tokenizer, state: RunState
               ) -> tuple[GPT, dict]:
    """The run, from the newest checkpoint to the plan's last step: the model, and the timing."""
    torch.manual_seed(plan.seed)
    model = GPT(plan.model).to(ranks.device)
    optimizers = make_optimizers(model, plan.recipe, plan.precision)
    guard, stop = SpikeGuard(), Stop()
    lengths = state.resume(model, optimizers, guard)
    recorder = Recorder(plan, args, ranks, model, state, lengths)
    parts = args.accumulate or 1
    if not args.accumulate and ranks.device.type == "cpu":
        parts = max(1, plan.rows * plan.model.sequence_length // 1024 // ranks.world)
    module = ranks.wrap(fitted(model, ranks.device, plan.compile))
    steps = training_steps(module, optimizers, train, plan.steps, plan.recipe,
                           start=state.step, accumulate=parts, precision=plan.precision,
                           guard=guard,
                           average=ranks.average if ranks.world > 1 else None)
    stopping = False
    try:
        for record in steps:
            recorder.after_update(record, evaluation, tokenizer)
            stopping = ranks.any(stop.signal != 0)
            overdue = time.monotonic() - recorder.saved > args.checkpoint_seconds
            if stopping or overdue or state.step == plan.steps:
                recorder.save(optimizers, guard)
            if stopping:
                break
    except NonFinite as why:
        recorder.save(optimizers, guard)
        raise BadInput(f"training stopped before the update: {why}. Saved are the weights of step "
                       f"{state.step}; try --fresh --learning-rate "
                       f"{plan.recipe.learning_rate / 2:g}") from why
    finally:
        recorder.bar.close()
    if stopping and state.step < plan.steps:
        leave_early(stop, state, plan, ranks)
    return model, recorder.timing()


def leave_early(stop: Stop, state: RunState, plan: Plan, ranks: Ranks) -> None:
    """Say where the run stands and exit: 0 after SIGTERM, as a scheduler wants, 130 on Ctrl-C."""
    if ranks.first:
        print(f"stopped after step {state.step} of {plan.steps}, saved in {shown(state.path)}; "
              "the same command goes on")
    ranks.leave()
    raise SystemExit(0 if stop.signal == signal.SIGTERM else 130)


def finish(plan: Plan, model: GPT, final: dict, timing: dict, train: Shard, held_out: Shard,
           folder: Path) -> None:
    """Compare with the 5-gram and the forecast; write loss.png, result.json and the claims."""
    scores = ngram_scores(train, held_out)
    loss, bits = final["val_loss"], final["val_bits_per_byte"]
    checked = check_forecast(plan.forecast, loss) if plan.forecast else None
    embeddings = sum(p.numel() for name, p in model.named_parameters()
                     if "embedding" in name and not name.endswith("up.weight"))
    params = sum(p.numel() for p in model.parameters())
    write_json(folder / "result.json", final | {
        "tokens": plan.tokens, "steps": plan.steps, "params": params,
        "params_non_embedding": params - embeddings
        - (0 if plan.model.tied else model.lm_head.weight.numel()),
        "forecast": checked, "ngram": {"bits_per_byte": scores[5], "by_order": scores}} | timing)
    draw_copying(folder, final, plan.steps)
    tokens_per_byte = float(held_out.length.sum() / held_out.bytes.sum())
    draw_loss(folder, final, scores[5] * LN2 / tokens_per_byte, plan.forecast)
    record_claims(final, scores, checked)
    print(f"{params / 1e6:.2f}M parameters, {plan.tokens / 1e6:.2f}M tokens in "
          f"{timing['seconds'] / 60:.1f} min ({timing['tokens_per_second']:,.0f} tokens/s, "
          f"MFU {timing['mfu']:.0%})\nheld-out documents: {bits:.4f} bits per byte ({loss:.4f} "
          f"nats per token in separate rows, as in training); 5-gram {scores[5]:.4f}, "
          f"2-gram {scores[2]:.4f}, 1-gram {scores[1]:.4f}")
    print(f"random tokens said twice: {final['copy_first']:.2f} nats per token the first time, "
          f"{final['copy_second']:.2f} the second")
    if checked:
        print(f"forecast before training: {checked['loss']:.3f} ({checked['low']:.3f} to "
              f"{checked['high']:.3f}), {abs(checked['relative_error']):.1%} off, "
              f"{'inside' if checked['inside'] else 'outside'} its interval")
    print("wrote " + ", ".join(RESULTS) + f" in {shown(folder)}")


def main() -> None:
    args = parse()
    ranks = join(args.device)
    if ranks.device.type == "cuda":     # what a GPU is made for, whatever the plan found on a CPU
        args.precision = args.precision or "bf16"
        args.compile = True if args.compile is None else args.compile
    folder, data = Path(args.out), Path(args.data)
    inputs = [args.plan, args.tokenizer, *(data / name for name in ("train.bin", "val.bin",
                                                                    "index.json"))]
    job = Job(__file__, vars(args), reads=inputs, writes=[folder / name for name in RESULTS])
    if job.up_to_date():
        return
    tokenizer = Tokenizer.load(need(args.tokenizer, "01_tokenizer/train_tokenizer.py"))
    shard, held_out = Shard(args.data, "train"), Shard(args.data, "val")
    if file_digest(args.tokenizer) != shard.tokenizer_sha256:
        raise BadInput(f"{shown(data / 'index.json')} holds tokens of another tokenizer than "
                       f"{shown(args.tokenizer)}: run python 02_data/build_corpus.py")
    hashes = {"tokenizer_sha256": shard.tokenizer_sha256, "corpus_sha256": shard.corpus_sha256}
    plan = make_plan(args, shard.vocab_size, hashes)
    torch.set_num_threads(plan.threads or torch.get_num_threads())
    if args.fresh and ranks.first:
        (folder / "run.pt").unlink(missing_ok=True)
    length = plan.model.sequence_length
    train = PackedBatches(shard, length, plan.rows, plan.seed, rank=ranks.rank,
                          ranks=ranks.world)
    train = SayTwice(train, plan.recipe.said_twice)
    evaluation = Evaluation(held_out, length, 8, plan.precision, 8_000 if args.quick else 30_000)
    state = RunState(folder / "run.pt", asdict(plan) | hashes)
    model, timing = train_plan(plan, args, ranks, train, evaluation, tokenizer, state)
    ranks.leave()
    if not ranks.first:
        return
    final = evaluation(model, whole=True) | copying_loss(model)
    final["val_bits_per_byte"] = round(held_out_bits(model, held_out, length, plan.precision), 6)
    save_checkpoint(folder / "base.pt", model=model, step=plan.steps,
                    extra=final | {"seed": plan.seed}, tokenizer_sha256=shard.tokenizer_sha256)
    write_json(folder / "timing.json", timing)
    finish(plan, model, final, timing, shard, held_out, folder)
    job.done()
    state.path.unlink(missing_ok=True)


if __name__ == "__main__":
    command(main)
