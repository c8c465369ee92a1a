"""Train HyperCluster's demo model on Shakespeare and write it as a GGUF file that llama.cpp runs.

The model is a small Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied embeddings, with
a byte-level BPE vocabulary of its own. Needs the dependency group `train` (PyTorch, tokenizers) beside the
normal ones:

    python scripts/train_demo_model.py

An interrupted run goes on from its last checkpoint. The weights of lowest validation loss are written.
"""

from __future__ import annotations

import argparse
import math
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from demo_llama import END_OF_TEXT, QUANTISATIONS, Llama, Shape, byte_level, export, load
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "scripts" / "data" / "tinyshakespeare.txt"
MODEL = ROOT / "node" / "demo_model" / "hypercluster-demo.gguf"
CHECKPOINT = ROOT / "build" / "demo_model.pt"
HELD_OUT = 0.1  # the last tenth of the text measures validation loss


def train_tokenizer(text: str, size: int) -> Tokenizer:
    """Learn a byte-level BPE vocabulary of `size` tokens, END_OF_TEXT first."""
    tokenizer = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def read_corpus(path: Path) -> tuple[str, str]:
    """The text before and after the held-out boundary, which is moved to the start of a speech."""
    text = path.read_text(encoding="utf-8")
    boundary = text.index("\n\n", int(len(text) * (1 - HELD_OUT))) + 2
    return text[:boundary], text[boundary:]


def batch(tokens: Tensor, rows: int, context: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random windows of the text and their successors, both [rows, context]."""
    starts = torch.randint(len(tokens) - context, (rows, 1), generator=generator)
    windows = tokens[starts + torch.arange(context + 1)]
    return windows[:, :-1], windows[:, 1:]


@torch.no_grad()
def validation_loss(model: Llama, tokens: Tensor, device: torch.device) -> float:
    """Mean cross-entropy in nats per token over `tokens` [n], read in windows of the context length."""
    model.eval()
    total, context = 0.0, model.shape.context
    for start in range(0, len(tokens) - 1, context):
        window = tokens[start : start + context + 1].to(device)
        total += F.cross_entropy(model(window[None, :-1])[0].float(), window[1:], reduction="sum").item()
    model.train()
    return total / (len(tokens) - 1)


def learning_rate(step: int, steps: int, peak: float, warm_up: int = 100) -> float:
    """Linear warm-up, then a cosine down to a twentieth of the peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(options: argparse.Namespace, device: torch.device) -> tuple[Llama, Tokenizer]:
    """Train, or go on from the checkpoint; returns the model of lowest validation loss and its tokenizer."""
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    shape = Shape()
    train_text, held_out = read_corpus(options.corpus)
    tokenizer = train_tokenizer(train_text, shape.vocabulary)
    tokens, validation = (torch.tensor(tokenizer.encode(text).ids) for text in (train_text, held_out))
    model = Llama(shape, options.dropout).to(device)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": options.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim != 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.95))
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{parameters:,} parameters; {len(tokens):,} tokens to learn, {len(validation):,} held out; {device}"
    )

    run = {"shape": asdict(shape), "tokenizer": tokenizer.to_str(), "seed": options.seed}
    first, best, best_weights, stale = 0, math.inf, model.state_dict(), 0
    if options.checkpoint.exists():
        state: dict[str, Any] = torch.load(options.checkpoint, map_location=device)
        if state["run"] != run:
            raise SystemExit(f"{options.checkpoint} is of another shape, text or seed: remove or rename it.")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["rng"].cpu())
        first, best, best_weights, stale = state["step"], state["best"], state["best_weights"], state["stale"]
        print(f"Going on from step {first} of {options.checkpoint}.")

    mixed = torch.autocast(device.type, torch.bfloat16) if options.bfloat16 else nullcontext()
    columns = (
        TextColumn("Training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=options.steps, completed=first)
        for step in range(first, options.steps):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, options.steps, options.learning_rate)
            inputs, targets = (t.to(device) for t in batch(tokens, options.batch, shape.context, generator))
            with mixed:
                loss = F.cross_entropy(model(inputs).flatten(0, 1).float(), targets.flatten())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            progress.update(bar, advance=1, description=f"loss {loss.item():.3f}")
            if (step + 1) % options.evaluate_every and step + 1 < options.steps:
                continue
            current = validation_loss(model, validation, device)
            progress.print(f"step {step + 1:5d}  training loss {loss.item():.4f}  validation {current:.4f}")
            stale = 0 if current < best else stale + 1
            if current < best:
                best, best_weights = current, {k: v.detach().clone() for k, v in model.state_dict().items()}
            save(
                options.checkpoint,
                {
                    "run": run,
                    "step": step + 1,
                    "best": best,
                    "stale": stale,
                    "best_weights": best_weights,
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "generator": generator.get_state(),
                    "rng": torch.get_rng_state(),
                },
            )
            if stale >= options.patience:
                progress.print(f"No better for {stale} evaluations: stopping.")
                break
    model.load_state_dict(best_weights)
    return model, tokenizer


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train the demo model and write it as GGUF.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="the text to learn, UTF-8")
    parser.add_argument("--out", type=Path, default=MODEL, help="the GGUF file to write")
    parser.add_argument("--type", choices=QUANTISATIONS, default="q8_0", help="how matrices are stored")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="resumed from if it exists")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ...")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves the choice to PyTorch")
    parser.add_argument(
        "--bfloat16", action=argparse.BooleanOptionalAction, default=True, help="mixed precision"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and dropout")
    parser.add_argument("--steps", type=int, default=2200, help="optimiser steps at most")
    parser.add_argument("--batch", type=int, default=8, help="windows of the context length per step")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="at the end of the warm-up")
    parser.add_argument("--weight-decay", type=float, default=0.1, help="of matrices")
    parser.add_argument(
        "--dropout", type=float, default=0.2, help="on embeddings and on what each block adds"
    )
    parser.add_argument("--evaluate-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument(
        "--patience", type=int, default=5, help="checkpoints without progress before stopping"
    )
    parser.add_argument(
        "--evaluate", type=Path, metavar="GGUF", help="only print the validation loss of this file"
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Train and export, or evaluate a file; ends by printing the validation loss of the file itself."""
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    accelerator = torch.accelerator.current_accelerator() or torch.device("cpu")
    device = accelerator if options.device == "auto" else torch.device(options.device)
    path = options.evaluate or options.out
    if not options.evaluate:
        model, tokenizer = train(options, device)
        export(model, tokenizer, path, options.type)
    model, tokenizer = load(path)
    text = read_corpus(options.corpus)[1]
    loss = validation_loss(model.to(device), torch.tensor(tokenizer.encode(text).ids), device)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, validation loss {loss:.4f} nats per token")


if __name__ == "__main__":
    main()
