"""What the operators share: how they are called from Python, how they tell progress, what they refuse."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo

from gem_label.errors import GemLabelError
from gem_label.progress import Progress
from gem_label.review.storage.internals import dataset_of, is_patches, rebuild_view

Result = dict[str, Any]

CALLER = "gem_label_caller"
"""Key of a request's parameters with who made it."""

OWN_PROCESS = object()
"""The caller is Python code of the user. A request of the App is JSON, which cannot hold this object."""


def is_own_process(ctx: Any) -> bool:
    """Whether an operator was called from Python here, and not by the App or a queue that the App fills."""
    return ctx.request_params.get(CALLER) is OWN_PROCESS and not ctx.delegated


def show_stored(ctx: Any, view: Any = None) -> list[Any]:
    """What the App does after every change of masks: nothing is selected, and the grid shows what is stored.

    Args:
        ctx: the execution context.
        view: what the grid shows now; None: what it shows already. Patches are copied from the masks again.
    """
    unselected = [ctx.ops.clear_selected_samples(), ctx.ops.clear_selected_labels()]
    if view is None and is_patches(ctx.view):
        view = rebuild_view(ctx.view)
    return [*unselected, ctx.ops.reload_dataset() if view is None else ctx.ops.set_view(view)]


class GemLabelOperator(foo.Operator):
    """An operator that does its work at once.

    Subclasses implement `run(ctx)`, which returns a result with a `message` for the person who waits.
    """

    def run(self, ctx: Any) -> Result:
        """Do the work."""
        raise NotImplementedError

    def execute(self, ctx: Any) -> Result:
        """Do the work, show what changed, say what was done."""
        result = self.run(ctx)
        if not ctx.delegated:
            for _ in self.after(ctx, result):
                pass
        return result

    def after(self, ctx: Any, result: Result) -> Generator[Any, None, None]:
        """What the App does when the work is done."""
        yield from show_stored(ctx)
        yield ctx.ops.notify(result["message"], variant="success")

    def __call__(
        self,
        samples: Any,
        delegate: bool = False,
        selected: list[str] | None = None,
        selected_labels: list[dict[str, str]] | None = None,
        **params: Any,
    ) -> Any:
        """Call the operator from Python, as `foo.get_operator(uri)(dataset, ...)`.

        Args:
            samples: a FiftyOne dataset or view.
            delegate: queue it for a delegated-operation service.
            selected: ids of samples (or patches) that count as selected in the App.
            selected_labels: labels that count as selected, as `session.selected_labels` gives them.
            params: the fields of the operator's form.
        """
        context = {
            "dataset": dataset_of(samples),
            "view": samples.view() if isinstance(samples, fo.Dataset) else samples,
            "selected": selected or [],
            "selected_labels": selected_labels or [],
            "request_delegation": delegate,
        }
        if not delegate:  # what is queued runs elsewhere, and nobody can tell there who queued it
            context[CALLER] = OWN_PROCESS
        return foo.execute_operator(self.uri, context, params=params)


class SteppedOperator(GemLabelOperator):
    """An operator whose work takes a while: `steps(ctx)` yields `Progress` and returns the result."""

    def steps(self, ctx: Any) -> Generator[Progress, None, Result]:
        """Do the work step by step."""
        raise NotImplementedError

    def execute(self, ctx: Any) -> Any:
        """Stream progress to the App, or into the queue's document when delegated."""
        return self._delegated(ctx) if ctx.delegated else self._streamed(ctx)

    def _delegated(self, ctx: Any) -> Result:
        work = self.steps(ctx)
        while True:
            try:
                progress = next(work)
            except StopIteration as end:
                return end.value
            ctx.set_progress(progress.share, progress.text)

    def _streamed(self, ctx: Any) -> Generator[Any, None, None]:
        work = self.steps(ctx)
        try:
            while True:
                progress = next(work)
                yield ctx.ops.set_progress(label=progress.text, progress=progress.share)
        except StopIteration as end:
            yield ctx.ops.set_progress(label=end.value["message"], progress=1.0)
            yield from self.after(ctx, end.value)
        except GemLabelError as error:  # the stream has begun: an exception alone would reach nobody
            yield ctx.ops.notify(str(error), variant="error")
            raise
        finally:
            work.close()  # whoever closed the browser or pressed cancel: the work ends in order
