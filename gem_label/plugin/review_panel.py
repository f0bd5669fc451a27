"""The panel "GEM-Label: Review": one mask or a page of masks at a time, a key a decision.

What is seen is a component of the plugin's JavaScript (plugins/review_panel); it calls the methods here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import GemLabelError
from gem_label.plugin import review_page, review_photo
from gem_label.plugin.review_claims import get_details, release_claims, renew_claims
from gem_label.plugin.review_queue import describe_field, make_queue, selection_of
from gem_label.plugin.review_summary import get_progress

COMPONENT = "GemLabelReview"
"""The name under which the plugin's JavaScript registers the component."""

Reply = dict[str, Any]


class ReviewPanel(foo.Panel):
    """Shows one mask after the other and stores what a key says about it."""

    @property
    def config(self) -> foo.PanelConfig:
        """Name and label of the tab."""
        return foo.PanelConfig(
            name="review_masks",
            label="GEM-Label: Review",
            icon="keyboard",
            help_markdown="One mask or a page at a time, a key a decision; `?` lists the keys.",
        )

    def render(self, ctx: Any) -> types.Property:
        """The component and the methods that it may call."""
        view = types.View(
            component=COMPONENT,
            composite_view=True,
            describe_field=self.describe_field,
            make_queue=self.make_queue,
            get_details=self.get_details,
            decide=self.decide,
            undo=self.undo,
            make_pages=self.make_pages,
            make_photo_queue=self.make_photo_queue,
            get_photo=self.get_photo,
            find_masks=self.find_masks,
            add_mask=self.add_mask,
            get_progress=self.get_progress,
            renew_claims=self.renew_claims,
            release_claims=self.release_claims,
        )
        return types.Property(types.Object(), view=view)

    def describe_field(self, ctx: Any) -> Reply:
        """Params `field` (optional); gives the fields, and of one its classes, counts and confused pairs."""
        return _reply(lambda: describe_field(ctx))

    def make_queue(self, ctx: Any) -> Reply:
        """Params `field`, `order`, `scope`, `label`, `runner_up`, `seed`, `phrase`, `holder`; gives ids of masks."""
        return _reply(lambda: make_queue(ctx))

    def get_details(self, ctx: Any) -> Reply:
        """Params `field`, `masks` (pairs of a sample's and a detection's id), `classes`; gives what is drawn.

        With `holder`, masks of `fresh` (ids of detections) are claimed, and left out where somebody else has them or
        decided about them; with `second_look`, decided ones stay.
        """
        return _reply(lambda: get_details(ctx))

    def decide(self, ctx: Any) -> Reply:
        """Params `field`, `decisions` (mask, label or None, seen), `request`, `author`; stores decisions.

        With `second_look`, masks that keep what was decided are not listed as likely mistakes again.
        """
        return _reply(lambda: review_page.decide(ctx))

    def undo(self, ctx: Any) -> Reply:
        """Params `field`, `masks`, `request`; takes back what that request decided."""
        return _reply(lambda: review_page.undo(ctx))

    def make_pages(self, ctx: Any) -> Reply:
        """Params as `make_queue`, and `current`, `finished`, `size`; gives the pages of a class."""
        return _reply(lambda: review_page.pages_of_class(ctx, selection_of(ctx)))

    def make_photo_queue(self, ctx: Any) -> Reply:
        """Params `field`, `scope`, `label`, `runner_up`, `holder`; gives ids of photos, and how many are not done."""
        return _reply(lambda: review_photo.make_photo_queue(ctx, selection_of(ctx)))

    def get_photo(self, ctx: Any) -> Reply:
        """Params `field`, `sample_id`, `classes`, `holder`; gives what is drawn of a photo."""
        return _reply(lambda: review_photo.get_photo(ctx))

    def find_masks(self, ctx: Any) -> Reply:
        """Params `field`, `sample_id`, `points`, `negative_points`, `box`, `size`; gives the masks that SAM sees."""
        return _reply(lambda: review_photo.find_masks(ctx))

    def add_mask(self, ctx: Any) -> Reply:
        """Params `field`, `mask`, `label`, `found`, `request`, `author`; stores a mask that `find_masks` gave."""
        return _reply(lambda: review_photo.add_mask(ctx))

    def get_progress(self, ctx: Any) -> Reply:
        """Params `field`, `seed`; gives what is done of each class, how good the labels are, and who decided."""
        return _reply(lambda: get_progress(ctx))

    def renew_claims(self, ctx: Any) -> Reply:
        """Params `holder`, `masks` (ids of detections); gives those that the holder still has."""
        return _reply(lambda: renew_claims(ctx))

    def release_claims(self, ctx: Any) -> Reply:
        """Params `holder`; gives all its masks back."""
        return _reply(lambda: release_claims(ctx))


class OpenReviewPanel(foo.Operator):
    """A button above the grid that opens the panel."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name and label."""
        return foo.OperatorConfig(
            name="open_review_panel",
            label="GEM-Label: Review with the keyboard",
            description="One mask at a time, a key a decision",
            icon="keyboard",
        )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        """Above the grid."""
        button = types.Button(label="Review with the keyboard", icon="keyboard", prompt=False)
        return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)

    def execute(self, ctx: Any) -> None:
        """Open it as a tab of its own: masks need room."""
        ctx.ops.open_panel("review_masks", is_active=True)


def _reply(work: Callable[[], Reply]) -> Reply:
    """What a method gives the component: its result, or one line about bad input."""
    try:
        return work()
    except GemLabelError as error:
        return {"error": str(error)}
