"""Train the demo CLIP on rendered scenes and their captions, on two CPU cores in hours or on a GPU in minutes.

    python pipelines/train_demo_clip.py --out gem_label/demo/clip

The only supervision is the contrastive one: which captions are true of which images. No mask, box or position of
a thing is ever used; localization has to emerge, as GEM claims (section 1 of the paper). Runs with the same
settings, seed and thread count repeat exactly.

On the CPU, memory returned to the system after every step costs a third of the time; run with
MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 to keep it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import torch
import yaml
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from gem_label.atomic import replacing
from gem_label.demo.captions import caption
from gem_label.demo.scenes import Scene, render_scene
from gem_label.demo.sprites import SpriteBook, load_sprites
from gem_label.demo.weights import save_demo_clip, tokens_that_occur

MEAN, STD = 127.5, 63.75


def render_batch(
    seed: int, book: SpriteBook, stage: dict, batch: int
) -> tuple[list[Scene], np.random.Generator]:
    """One batch of scenes; the seed alone decides it, so batches may be made ahead in threads."""
    rng = np.random.default_rng(seed)
    size = (stage["canvas"], stage["canvas"])
    drawings = book.drawings(held_out=False)
    return [
        render_scene(rng, book, drawings, size, tuple(stage["count"]), tuple(stage["thing_size"]))
        for _ in range(batch)
    ], rng


def batches(
    settings: dict, book: SpriteBook, first: int
) -> Iterator[tuple[list[Scene], np.random.Generator]]:
    """The batches of all stages in order from step `first` on, two rendered ahead."""
    stages = [stage for stage in settings["stages"] for _ in range(stage["steps"])]
    with ThreadPoolExecutor(1) as pool:
        ahead: list[Future] = []
        for i, stage in enumerate(stages[first:], start=first):
            ahead.append(
                pool.submit(render_batch, settings["seed"] * 10**9 + i, book, stage, settings["batch"])
            )
            if len(ahead) > 2:
                yield ahead.pop(0).result()
        for future in ahead:
            yield future.result()


def captions_and_truth(
    scenes: list[Scene], nouns: tuple[str, ...], rng: np.random.Generator
) -> tuple[list[str], Tensor]:
    """The batch's captions, and (images, captions) bool: which caption is true of which image.

    First a caption for every word by itself (those of things that are in no image of the batch are the negatives
    that a larger batch would bring), then for every image one that names some or all of its things.
    """
    named: list[tuple[str, ...]] = [(noun,) for noun in nouns]
    for scene in scenes:
        seen = [str(noun) for noun in rng.permutation(scene.nouns)]
        if seen:
            named.append(tuple(seen[: rng.integers(1, min(len(seen), 4) + 1)]))
    truth = [[set(n) <= set(scene.nouns) for n in named] for scene in scenes]
    return [caption(rng, n) for n in named], torch.tensor(truth)


def encode_images(
    visual: VisionTransformer, images: Tensor, settings: dict, rng: np.random.Generator
) -> Tensor:
    """(B, embed_dim) image embeddings of canvases smaller than the tower's own input.

    A canvas takes the positional embeddings of a random window of the full grid, as if it were cut out of a
    larger picture; the MLPs of the last blocks are now and then left out (stochastic depth).
    """
    x = visual.conv1(images)
    batch, width, h, w = x.shape
    grid = visual.grid_size[0]
    top, left = rng.integers(0, grid - h + 1), rng.integers(0, grid - w + 1)
    positions = visual.positional_embedding
    window = positions[1:].reshape(grid, grid, width)[top : top + h, left : left + w].reshape(h * w, width)
    cls = (visual.class_embedding + positions[0]).expand(batch, 1, width)
    x = visual.ln_pre(torch.cat([cls.to(x.dtype), x.flatten(2).transpose(1, 2) + window], dim=1))
    blocks = visual.transformer.resblocks
    for i, block in enumerate(blocks):
        skip = (
            i >= len(blocks) - settings["skip_mlp"]["blocks"]
            and rng.random() < settings["skip_mlp"]["chance"]
        )
        x = x + block.ls_1(block.attention(block.ln_1(x)))
        if not skip:
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
    return visual.ln_post(x)[:, 1:].mean(dim=1) @ visual.proj


def encode_texts(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """(M, embed_dim) text embeddings, without computing the padding that no caption of the batch reaches."""
    length = int(tokens.argmax(1).max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), tokens.argmax(1)] @ model.text_projection


def contrastive_loss(image: Tensor, text: Tensor, truth: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric softmax loss with several true captions an image and several true images a caption.

    Args:
        image: (B, d) embeddings. text: (M, d) embeddings. truth: (B, M) bool. scale: inverse temperature.
    """
    logits = scale * F.normalize(image.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T
    target = truth.float()
    per_image = -(logits.log_softmax(1) * target).sum(1) / target.sum(1).clamp(min=1)
    per_text = -(logits.log_softmax(0) * target).sum(0) / target.sum(0).clamp(min=1)
    return (per_image.mean() + per_text.sum() / (target.sum(0) > 0).sum()) / 2


@torch.no_grad()
def whiten_patch_embedding(visual: VisionTransformer, scenes: list[Scene]) -> None:
    """Start the patch embedding as a whitening of the patches of some scenes.

    Neighboring pixels are nearly equal, so that a random embedding sees little but a patch's mean color, and
    training spends its first hours on undoing that.
    """
    weight = visual.conv1.weight
    side = visual.patch_size[0]
    pixels = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2)
    patches = (
        F.unfold((pixels.float() - MEAN) / STD, side, stride=side).transpose(1, 2).reshape(-1, 3 * side**2)
    )
    variances, directions = torch.linalg.eigh(torch.cov(patches.T))
    whitening = (directions / (variances.clamp(min=0) + 0.01).sqrt()).T.flip(0)
    count = min(len(whitening), len(weight))
    weight[:count] = whitening[:count].reshape(count, 3, side, side).to(weight)


def optimizers(model: nn.Module, settings: dict) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' weight matrices, AdamW for everything else, slower for the patch embedding."""
    parameters = dict(model.named_parameters())
    patch = [parameters.pop("visual.conv1.weight")]
    matrices = [p for name, p in parameters.items() if p.ndim == 2 and "resblocks" in name]
    others = [p for name, p in parameters.items() if p.ndim != 2 or "resblocks" not in name]
    return [
        torch.optim.Muon(matrices, lr=settings["matrix_lr"], weight_decay=settings["weight_decay"]),
        torch.optim.AdamW(others, lr=settings["other_lr"], betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.AdamW(patch, lr=settings["patch_lr"], betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(settings: dict, out: Path, device: str, log_every: int = 50) -> None:
    """Train and save, every `log_every` steps as well, with the state to go on from after a kill."""
    torch.manual_seed(settings["seed"])
    book = load_sprites()
    text_cfg = settings["model"]["text_cfg"]
    tokenizer = open_clip.SimpleTokenizer(context_length=text_cfg["context_length"])
    # Only the token rows that captions can hold are trained: the other 49 000 would be idle weight in every step.
    rows = tokens_that_occur(book.nouns, text_cfg["context_length"])
    model = open_clip.CLIP(
        **settings["model"] | {"text_cfg": text_cfg | {"vocab_size": len(rows)}}, output_dict=True
    ).to(device)
    whiten_patch_embedding(model.visual, render_batch(settings["seed"], book, settings["stages"][0], 500)[0])
    tuners = optimizers(model, settings)
    first = [t.param_groups[0]["lr"] for t in tuners]
    total = sum(stage["steps"] for stage in settings["stages"])
    corners = np.array(settings["schedule"])
    state_file, start = out / "training_state.pt", 0
    if state_file.is_file():
        state = torch.load(state_file, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        for tuner, saved in zip(tuners, state["optimizers"], strict=True):
            tuner.load_state_dict(saved)
        start = state["step"]
        print(f"resuming at step {start}", flush=True)
    started, losses, hits = time.time(), [], []
    for step, (scenes, rng) in enumerate(batches(settings, book, start), start=start):
        rate = float(np.interp(step, corners[:, 0], corners[:, 1]))
        for tuner, lr in zip(tuners, first, strict=True):
            tuner.param_groups[0]["lr"] = lr * rate
        captions, truth = captions_and_truth(scenes, book.nouns, rng)
        pixels = torch.from_numpy(np.stack([s.image for s in scenes])).to(device).permute(0, 3, 1, 2)
        images = (pixels.float() - MEAN) / STD
        truth = truth.to(device)
        with torch.autocast(device, torch.bfloat16):
            image = encode_images(model.visual, images.contiguous(), settings, rng)
            text = encode_texts(model, torch.searchsorted(rows, tokenizer(captions)).to(device))
        loss = contrastive_loss(image, text, truth, model.logit_scale.exp())
        for tuner in tuners:
            tuner.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for tuner in tuners:
            tuner.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=float(np.log(60.0)))
            words = F.normalize(text[: len(book.nouns)].float(), dim=-1)
            best = (F.normalize(image.float(), dim=-1) @ words.T).argmax(1)
            hits.append(truth.gather(1, best[:, None]).float().mean().item())
        losses.append(loss.item())
        if (step + 1) % log_every == 0:
            print(
                f"step {step + 1}/{total} loss {np.mean(losses):.3f} best word true {np.mean(hits):.3f} "
                f"scale {model.logit_scale.exp().item():.1f} "
                f"{log_every * settings['batch'] / (time.time() - started):.0f} scenes/s",
                flush=True,
            )
            started, losses, hits = time.time(), [], []
            save_demo_clip(model, rows, settings, out)
            state = {
                "model": model.state_dict(),
                "optimizers": [t.state_dict() for t in tuners],
                "step": step + 1,
            }
            with replacing(state_file) as file:
                torch.save(state, file)
    save_demo_clip(model, rows, settings, out)
    state_file.unlink(missing_ok=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    settings = yaml.safe_load(args.config.read_text())
    print(json.dumps(settings), flush=True)
    train(settings, args.out, args.device)


if __name__ == "__main__":
    main()
