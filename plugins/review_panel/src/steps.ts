// What was decided in this tab, so that it can be undone, redone, looked back at and counted.
import type { Found, Reference, State } from "./server";

/** What was decided about a mask. */
export type Change = {
  mask: Reference;
  label: string | null;
  before: { label: string | null; state: State };
  proposed: string | null; // the label that the mask had when it was first decided about
  isNew?: boolean; // a reviewer added the mask
  isAdded?: boolean; // by this change
  found?: Found; // what is added
};

/** What was decided at once: about one mask, or about a page of them. */
export type Step = { request: string; changes: Change[]; at: number };

const KEPT = 4000; // decisions that stay over a reload, as far as the room for them in the browser allows

export class Steps {
  private done: Step[];
  private undone: Step[] = [];
  private latest: Map<string, Change> | null = null; // by mask; null: to be found again

  constructor(done: Step[] = []) {
    this.done = done;
  }

  get canUndo(): boolean {
    return this.done.length > 0;
  }

  get canRedo(): boolean {
    return this.undone.length > 0;
  }

  /** The last decision about each mask, by its id, in the order in which masks were first decided about. */
  get last(): Map<string, Change> {
    this.latest ??= new Map(this.done.flatMap(({ changes }) => changes.map((change) => [change.mask[1], change])));
    return this.latest;
  }

  /** The last decision about each mask that was there before the review. */
  get decided(): Change[] {
    return [...this.last.values()].filter(({ isNew }) => !isNew);
  }

  /** When how many decisions were made. */
  get moments(): { at: number; decisions: number }[] {
    return this.done.map(({ at, changes }) => ({ at, decisions: changes.length }));
  }

  clear(): void {
    this.done = [];
    this.undone = [];
    this.latest = null;
  }

  add(step: Step): void {
    this.done.push(step);
    this.latest = null;
  }

  /** After another decision, what was undone cannot be redone. */
  forgetUndone(): void {
    this.undone = [];
  }

  undo(): Step | null {
    const step = this.done.pop() ?? null;
    if (step) this.undone.push(step);
    this.latest = null;
    return step;
  }

  redo(): Step | null {
    return this.undone.pop() ?? null;
  }

  /** What did not come about does not count, and there is nothing to undo of it. */
  drop(request: string, labels: Set<string>): void {
    this.done = this.done
      .map((step) => {
        if (step.request !== request) return step;
        return { ...step, changes: step.changes.filter(({ mask }) => !labels.has(mask[1])) };
      })
      .filter(({ changes }) => changes.length);
    this.latest = null;
  }

  /** The latest steps, for a reload. */
  toStore(): Step[] {
    let room = KEPT;
    let first = this.done.length;
    while (first > 0 && (room -= this.done[first - 1]!.changes.length) >= 0) first--;
    // what was added need not be added again
    return this.done.slice(first).map((step) => ({
      ...step,
      changes: step.changes.map(({ found: _, ...change }) => change),
    }));
  }
}
