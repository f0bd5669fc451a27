"""Search the masks of a dataset by a phrase."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import GemLabelError, UsageError
from gem_label.plugin.base import GemLabelOperator, Result
from gem_label.plugin.decide import required_field
from gem_label.plugin.encoders import text_encoder
from gem_label.plugin.forms import add_mask_field, problem, titled
from gem_label.review.storage.fields import run_of
from gem_label.review.storage.views import patches_in_order
from gem_label.review.tasks.search import search_masks


class SearchMasks(GemLabelOperator):
    """Show the masks that fit a phrase best."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name="search_masks",
            label="GEM-Label: Search masks",
            description="Type a phrase, see the masks that match it best, across the dataset",
            icon="search",
            dynamic=True,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Field, phrase, how many."""
        form = types.Object()
        field = add_mask_field(form, ctx)
        if field:
            try:
                run_of(ctx.dataset, field)
            except GemLabelError as error:
                problem(form, "no_run", str(error))
            form.str(
                "phrase",
                required=True,
                label="Phrase",
                description="Any words, not only those the masks are labeled with",
                view=types.TextFieldView(placeholder="broken window"),
            )
            form.int("top", default=50, min=1, max=5000, label="How many masks")
        return titled(form, "Search masks", "Search")

    def run(self, ctx: Any) -> Result:
        """Search, and show the patches in order."""
        phrase = (ctx.params.get("phrase") or "").strip()
        if not phrase:
            raise UsageError("type a phrase to search for")
        field = required_field(ctx)
        run = run_of(ctx.dataset, field)
        embedding = text_encoder(run).encode([phrase])
        found = search_masks(ctx.dataset, field, run, embedding, int(ctx.params.get("top") or 50))
        if not found:
            raise UsageError(f"field {field!r} has no mask of its run: relabel or label first")
        view = patches_in_order(ctx.dataset, field, [(mask.sample_id, mask.label_id) for mask in found])
        ctx.ops.set_view(view)
        masks = [
            {"id": mask.label_id, "mask_id": mask.mask_id, "label": mask.label, "similarity": mask.similarity}
            for mask in found
        ]
        return {"message": f"{len(found)} masks for {phrase!r}, best first", "masks": masks}

    def after(self, ctx: Any, result: Result) -> Any:
        """The view is set: nothing in the dataset changed."""
        yield ctx.ops.notify(result["message"], variant="info")
