"""What a mask takes on disk, column by column, and whether labels stay what they are with exact embeddings.

    gem-label label PHOTOS --clip demo --words "..." --out RUN
    python benchmarks/run_bytes.py RUN                  # bytes by column, and what format 1 would take
    python benchmarks/run_bytes.py RUN --vocabularies 12 --words 10   # also computes the embeddings again

For the second, the photos have to be where they were: their patch features are computed and pooled again, without
rounding, and the masks are labeled with both, once with each vocabulary of random words of the run's, and once with
all its words.
"""

from __future__ import annotations

import argparse
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from label_rules import random_vocabularies
from numpy.typing import NDArray
from tqdm import tqdm

from gem_label.clip.dense import DenseEncoder
from gem_label.clip.models import load_clip
from gem_label.labeler import text_encoder_of
from gem_label.labeling import LabelSettings, MaskLabels, Vocabulary, label_maskset
from gem_label.labeling.labels import join_labels
from gem_label.masks import MaskSet, patch_weights, pool_patches
from gem_label.photos.reading import read_image
from gem_label.runs import PhotoRecord, Run, open_run
from gem_label.runs.files import MASKS, shard_paths
from gem_label.runs.schema import mask_schema, table_vectors
from gem_label.runs.shard_writer import photos_metadata
from gem_label.surround import surround_weights

Photo = tuple[PhotoRecord, MaskSet]


def bytes_by_column(shards: Iterable[bytes]) -> Counter[str]:
    """Bytes of each column in parquet files, and of their footers and checksums ("footer")."""
    sizes: Counter[str] = Counter()
    for content in shards:
        metadata = pq.ParquetFile(io.BytesIO(content)).metadata
        before = sizes.total()
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for index in range(row_group.num_columns):
                column = row_group.column(index)
                sizes[column.path_in_schema.split(".")[0]] += column.total_compressed_size
        sizes["footer"] += len(content) - (sizes.total() - before)
    return sizes


def as_format_1(run: Run) -> Iterator[bytes]:
    """The run's shards as format 1 had them, with the surrounds in a second column of half-precision vectors."""
    schema = mask_schema(run.embedding_dim, 1)
    vectors = schema.field("embedding").with_name("surround")
    kept = [name for name in schema.names if name not in ("selected", "overlap_with", "overlap_share")]
    schema = pa.schema([schema.field(name) for name in kept] + [vectors])
    with run.shards() as shards:
        for shard in shards:
            content = io.BytesIO()
            with pq.ParquetWriter(
                content,
                schema,
                compression=dict.fromkeys(schema.names, "zstd") | {"embedding": "none", "surround": "none"},
                use_dictionary=["image", "image_id", "label", "top_labels.list.element"],
                write_statistics=["image_number", "score", "kept", "label"],
            ) as writer:
                for _, table in shard.groups():
                    columns = {name: table[name] for name in kept if name != "embedding"}
                    for name, rows in zip(("embedding", "surround"), table_vectors(table), strict=True):
                        assert rows is not None
                        flat = pa.array(rows.astype(np.float16).reshape(-1))
                        columns[name] = pa.FixedSizeListArray.from_arrays(flat, type=vectors.type)
                    columns["top_scores"] = pa.chunked_array(
                        [chunk.cast(pa.list_(pa.float32())) for chunk in table["top_scores"].chunks]
                    )
                    writer.write_table(pa.table([columns[name] for name in schema.names], schema=schema))
                writer.add_key_value_metadata(photos_metadata(shard.photos))
            yield content.getvalue()


def exact_photos(run: Run) -> Iterator[tuple[Photo, Photo]]:
    """Every photo with its masks as stored, and with embeddings that are computed again and not rounded."""
    clip = load_clip(run.manifest["settings"]["clip"], "cpu")
    dense = DenseEncoder(clip, run.manifest["settings"]["dense"]["method"])
    side = run.manifest["settings"]["short_side"]
    photos = run.photo_masks()
    for photo, masks, _ in tqdm(
        photos, total=run.manifest["counts"]["photos"], desc="embedding", unit="photo"
    ):
        if not len(masks):
            continue
        features, _ = dense.encode_with_class_token(clip.preprocess(read_image(photo.image), side)[None])
        patches = features[0].cpu().numpy()
        weights = (of(masks, patches.shape[:2]) for of in (patch_weights, surround_weights))
        embeddings, surrounds = (pool_patches(each, patches) for each in weights)
        yield (photo, masks), (photo, replace(masks, embeddings=embeddings, surrounds=surrounds))


def label_all(
    photos: list[Photo], vocabulary: Vocabulary, text: NDArray[np.float32], scale: float
) -> MaskLabels:
    """The labels of all masks."""
    settings = LabelSettings()
    return join_labels(
        [
            label_maskset(masks, text, vocabulary, scale, settings, image_embedding=photo.embedding)
            for photo, masks in photos
        ]
    )


def print_agreement(run: Run, count: int, words: int) -> None:
    """How many masks have the same best word, and are kept as before, with exact embeddings."""
    stored, exact = map(list, zip(*exact_photos(run), strict=True))
    encoder = text_encoder_of(run)
    classes = list(run.vocabulary.classes)
    same, kept, apart = [], [], 0.0
    for chosen in [*random_vocabularies(classes, words, count, 0), classes]:
        vocabulary = encoder.prepare(Vocabulary.from_words(chosen), "auto")
        text = encoder.encode(vocabulary.phrases)
        one, other = (label_all(photos, vocabulary, text, run.logit_scale) for photos in (stored, exact))
        same.append(float((one.top_classes[:, 0] == other.top_classes[:, 0]).mean()))
        kept.append(float((one.kept == other.kept).mean()))
        apart = max(apart, float(np.abs(one.score - other.score).max()))
    print(
        f"{len(same) - 1} vocabularies of {words} words and one of {len(classes)}: the same best word for "
        f"{np.mean(same):.2%} of the masks (least {min(same):.2%}), kept or not as before {np.mean(kept):.2%} "
        f"(least {min(kept):.2%}), scores at most {apart:.3f} apart"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--vocabularies", type=int, default=0, help="how many to compare labels with")
    parser.add_argument("--words", type=int, default=10, help="of each vocabulary")
    args = parser.parse_args()
    run = open_run(args.run)
    masks = run.manifest["counts"]["masks"]
    sizes = bytes_by_column(path.read_bytes() for path in shard_paths(run.path / MASKS))
    print(
        f"format {run.format}, {masks} masks, {run.embedding_dim} dimensions: {sizes.total() / masks:.1f} bytes"
    )
    print("| column | bytes a mask |\n|---|---|")
    for name, size in sizes.most_common():
        print(f"| `{name}` | {size / masks:.2f} |")
    earlier = bytes_by_column(as_format_1(run))
    print(
        f"format 1: {(earlier.total() - earlier['surround']) / masks:.1f} bytes, with surrounds in half precision "
        f"{earlier.total() / masks:.1f}"
    )
    if args.vocabularies:
        print_agreement(run, args.vocabularies, args.words)


if __name__ == "__main__":
    main()
