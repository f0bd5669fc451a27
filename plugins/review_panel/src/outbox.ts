// Decisions on their way to the database: stored in the order in which they were made, one after the other.
//
// What has no answer yet is in the tab's sessionStorage too, so that a reload loses nothing. Every decision has an id,
// and the server recognizes one that it has stored before.
import { Refusal, type Answer, type Reference, type Server } from "./server";

export type Entry = {
  kind: "decide" | "undo";
  request: string;
  dataset: string;
  field: string;
  mask: Reference;
  label: string | null;
  author: string;
};

export type Trouble = { entry: Entry; message: string };

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
    private readonly answered: (entry: Entry, answer: Answer) => void,
  ) {
    this.entries = JSON.parse(sessionStorage.getItem(key) ?? "[]") as Entry[];
    void this.run();
  }

  /** The last decision about a mask that we know of: what others decide since then is a conflict. */
  saw(labelId: string, decision: string | null): void {
    if (!this.entries.some((entry) => entry.mask[1] === labelId)) this.seen.set(labelId, decision);
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
        const answer = await this.send(entry);
        this.failure = null;
        wait = FIRST_WAIT;
        this.done(entry, answer);
      } catch (error) {
        if (error instanceof Refusal) {
          this.troubles.push({ entry, message: error.message });
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

  private send(entry: Entry): Promise<Answer> {
    const { dataset, kind, ...params } = entry;
    if (kind === "undo") return this.server().undo(params, dataset);
    return this.server().decide({ ...params, seen: this.seen.get(entry.mask[1]) ?? null }, dataset);
  }

  private done(entry: Entry, answer: Answer): void {
    this.seen.set(entry.mask[1], answer.decision);
    if (answer.outcome === "conflict") {
      const now = answer.state === "rejected" ? "rejected" : `${answer.state} as ${answer.label}`;
      this.troubles.push({ entry, message: `somebody else decided first: the mask is ${now} and stays so` });
    }
    if (answer.outcome === "gone") this.troubles.push({ entry, message: "the mask is not in the dataset any more" });
    this.drop();
    this.answered(entry, answer);
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
