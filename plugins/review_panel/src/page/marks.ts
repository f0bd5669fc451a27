// What becomes of the masks of a page that are not accepted as they are.
import type { Details } from "../server";

export type Mark =
  | { kind: "wrong" } // no class yet: rejected with the page
  | { kind: "rejected" }
  | { kind: "class"; label: string }
  | { kind: "later" };

export type Marks = Map<string, Mark>;

export type Outcome = { accepted: number; rejected: number; renamed: number; later: number };

export type Decided = { details: Details; label: string | null };

/** What a page decides about its masks: their labels, or null for those that are rejected. */
export function choicesOf(masks: Details[], marks: Marks): Decided[] {
  return masks.flatMap((details): Decided[] => {
    const mark = marks.get(details.label_id);
    if (mark?.kind === "later") return [];
    if (mark?.kind === "class") return [{ details, label: mark.label }];
    if (mark) return [{ details, label: null }];
    return details.state === "undecided" && details.label !== null ? [{ details, label: details.label }] : [];
  });
}

/** How many masks get what. */
export function outcomeOf(masks: Details[], marks: Marks): Outcome {
  const outcome = { accepted: 0, rejected: 0, renamed: 0, later: 0 };
  for (const { label_id, label, state } of masks) {
    const mark = marks.get(label_id);
    if (mark?.kind === "later") outcome.later++;
    else if (mark?.kind === "class") outcome[mark.label === label ? "accepted" : "renamed"]++;
    else if (mark) outcome.rejected++;
    else if (state === "undecided") outcome.accepted++;
  }
  return outcome;
}

/** Up to nine classes for some masks, those that fit them best together first. */
export function classesFor(masks: Details[]): [name: string, score: number | null][] {
  const sums = new Map<string, { score: number; places: number; scored: boolean }>();
  for (const { classes } of masks) {
    classes.forEach(([name, score], place) => {
      const sum = sums.get(name) ?? { score: 0, places: 0, scored: false };
      sum.score += score ?? 0;
      sum.places += 1 / (place + 1);
      sum.scored ||= score !== null;
      sums.set(name, sum);
    });
  }
  return [...sums]
    .sort(([, one], [, other]) => other.score - one.score || other.places - one.places)
    .slice(0, 9)
    .map(([name, { score, scored }]) => [name, scored ? score / masks.length : null]);
}
