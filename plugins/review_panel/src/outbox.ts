// Decisions on their way to the database: stored in the order in which they were made, one after the other.
//
// What has no answer yet is in the tab's sessionStorage too, so that a reload loses nothing. Every decision has an id,
// and the server recognizes one that it has stored before.
import { Refusal, type Answer, type Found, type Reference, type Server } from "./server";

/** The right label of a mask; null: it is rejected. A mask that is added comes as it was found. */
export type Choice = { mask: Reference; label: string | null; isAdded?: boolean; found?: Found };

/** What is stored, or taken back, in one request. */
export type Entry = {
  kind: "decide" | "undo";
  request: string;
  dataset: string;
  field: string;
  choices: Choice[];
  author: string;
  second_look: boolean;
};

/** What did not come about, and for which masks of an entry. */
export type Trouble = { entry: Entry; choices: Choice[]; message: string };

const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;

export class Outbox {
  entries: Entry[];
  troubles: Trouble[] = [];
  failure: string | null = null;
  private readonly seen = new Map<string, string | null>();
  private running = false;
  private wake: (() => void) | null = null;

  constructor(
    private readonly server: () => Server,
    private readonly key: string,
    private readonly changed: () => void,
    private readonly answered: (entry: Entry, answers: Answer[]) => void,
  ) {
    this.entries = JSON.parse(sessionStorage.getItem(key) ?? "[]") as Entry[];
    void this.run();
  }

  /** The last decision about a mask that we know of: what others decide since then is a conflict. */
  saw(labelId: string, decision: string | null): void {
    if (!this.isWaiting(labelId)) this.seen.set(labelId, decision);
  }

  /** Whether something about a mask is on its way. */
  isWaiting(labelId: string): boolean {
    return this.entries.some((entry) => entry.choices.some((choice) => choice.mask[1] === labelId));
  }

  /** How many masks are decided about and not stored yet. */
  get unstored(): number {
    const decided = this.entries.filter(({ kind }) => kind === "decide");
    return decided.reduce((sum, { choices }) => sum + choices.length, 0);
  }

  /** Whether something about a mask of a photo is on its way. */
  isWaitingFor(sampleId: string): boolean {
    return this.entries.some((entry) => entry.choices.some((choice) => choice.mask[0] === sampleId));
  }

  add(entry: Entry): void {
    this.entries.push(entry);
    this.save();
    void this.run();
  }

  /** Sends now what waits for another attempt. */
  retry(): void {
    this.wake?.();
  }

  private save(): void {
    sessionStorage.setItem(this.key, JSON.stringify(this.entries));
    this.changed();
  }

  private async run(): Promise<void> {
    if (this.running) return;
    this.running = true;
    let wait = FIRST_WAIT;
    while (this.entries.length) {
      const entry = this.entries[0]!;
      try {
        const answers = await this.send(entry);
        this.failure = null;
        wait = FIRST_WAIT;
        this.done(entry, answers);
      } catch (error) {
        if (error instanceof Refusal) {
          this.troubles.push({ entry, choices: entry.choices, message: error.message });
          this.drop();
          continue;
        }
        // browsers say "Failed to fetch" and the like when there is no connection
        this.failure = error instanceof TypeError ? "no connection to the server" : (error as Error).message;
        this.changed();
        await this.pause(wait);
        wait = Math.min(2 * wait, LONGEST_WAIT);
      }
    }
    this.running = false;
  }

  private send(entry: Entry): Promise<Answer[]> {
    const { dataset, kind, choices, ...params } = entry;
    if (kind === "undo") return this.server().undo({ ...params, masks: choices.map((choice) => choice.mask) }, dataset);
    const added = choices.find(({ found }) => found); // alone in its entry
    if (added) return this.server().addMask({ ...params, ...added }, dataset);
    const decisions = choices.map(({ mask, label }) => ({ mask, label, seen: this.seen.get(mask[1]) ?? null }));
    return this.server().decide({ ...params, decisions }, dataset);
  }

  private done(entry: Entry, answers: Answer[]): void {
    const conflicts: Choice[] = [];
    const gone: Choice[] = [];
    entry.choices.forEach((choice, place) => {
      const answer = answers[place]!;
      this.seen.set(choice.mask[1], answer.decision);
      if (answer.outcome === "conflict") conflicts.push(choice);
      const isTakenBack = entry.kind === "undo" && choice.isAdded;
      if (answer.outcome === "gone" && !isTakenBack) gone.push(choice);
    });
    if (conflicts.length === 1) {
      const { label, state } = answers[entry.choices.indexOf(conflicts[0]!)]!;
      const now = state === "rejected" ? "rejected" : `${state} as ${label}`;
      const message = `somebody else decided first: the mask is ${now} and stays so`;
      this.troubles.push({ entry, choices: conflicts, message });
    } else if (conflicts.length) {
      const message = `somebody else decided about ${conflicts.length} of these masks first: they stay as they are`;
      this.troubles.push({ entry, choices: conflicts, message });
    }
    if (gone.length) {
      const what = gone.length === 1 ? "the mask is" : `${gone.length} masks are`;
      this.troubles.push({ entry, choices: gone, message: `${what} not in the dataset any more` });
    }
    this.drop();
    this.answered(entry, answers);
  }

  private drop(): void {
    this.entries.shift();
    this.save();
  }

  private pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
