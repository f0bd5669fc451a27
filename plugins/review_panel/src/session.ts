// The state of a review: which mask is shown, what was decided, what can be undone. React draws what it says.
import { Ahead } from "./ahead";
import type { Picture } from "./drawing";
import type { ModeName } from "./modes";
import { Outbox, type Entry } from "./outbox";
import type { Answer, FieldDescription, Order, Reference, Server, State } from "./server";
import { perMinute, wilson, type Interval } from "./statistics";

export type Question = {
  field: string | null;
  order: Order;
  scope: "dataset" | "view" | "selected";
  label: string | null;
  runner_up: string | null;
  seed: number;
};

/** A decision as undo, redo and the counts need it. */
type Step = {
  request: string;
  mask: Reference;
  label: string | null;
  before: { label: string | null; state: State };
  proposed: string | null; // the label that the mask had when it was first decided about
  at: number;
};

export type Counts = { decided: number; remaining: number; speed: number | null; precision: Interval | null };

const STEPS = 100; // the server can undo as many

export class Session {
  question: Question = { field: null, order: "uncertain", scope: "dataset", label: null, runner_up: null, seed: 0 };
  mode: ModeName = "mask";
  description: FieldDescription | null = null;
  masks: Reference[] = [];
  position = 0;
  private undecided = 0; // when the queue was made
  loading = true;
  private message: string | null = null;
  version = 0;
  author = "";
  readonly outbox: Outbox;
  private steps: Step[] = [];
  private undone: Step[] = [];
  private readonly ahead: Ahead;
  private readonly listeners = new Set<() => void>();
  private generation = 0;
  private decidedBefore = 0;

  constructor(
    readonly server: Server,
    readonly datasetId: string,
    readonly dataset: string,
  ) {
    this.outbox = new Outbox(() => this.server, `gem-label-unstored:${datasetId}`, this.changed, this.answered);
    this.ahead = new Ahead(server, this.changed, this.dropGone, (details) => {
      this.outbox.saw(details.label_id, details.decision);
    });
    const stored = JSON.parse(sessionStorage.getItem(this.storageKey) ?? "null");
    if (stored) {
      this.question = stored.question;
      this.mode = stored.mode;
      this.steps = stored.steps;
    }
    this.author = localStorage.getItem("gem-label-reviewer") ?? "";
    void this.begin();
  }

  private get storageKey(): string {
    return `gem-label-review:${this.datasetId}`;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  getVersion = (): number => this.version;

  private changed = (): void => {
    this.version++;
    for (const listener of this.listeners) listener();
  };

  // --- what is asked ---

  /** Another field, order, class, ... to review. */
  ask(change: Partial<Question>): void {
    const field = change.field !== undefined && change.field !== this.question.field;
    this.question = { ...this.question, ...(field ? { label: null, runner_up: null } : {}), ...change };
    this.steps = [];
    this.undone = [];
    void this.begin();
  }

  /** Another way to look at what is reviewed. */
  setMode(mode: ModeName): void {
    this.mode = mode;
    this.store();
    void this.begin();
  }

  async begin(): Promise<void> {
    const generation = ++this.generation;
    this.loading = true;
    this.message = null;
    this.changed();
    try {
      const description = await this.server.describeField(this.question.field);
      if (generation !== this.generation) return;
      this.description = description;
      this.question.field = description.field;
      this.author ||= description.author;
      const queue = description.field ? await this.server.makeQueue(this.question) : { masks: [], remaining: 0 };
      if (generation !== this.generation) return;
      // what was decided before a reload comes first, to look back at; what is on its way is not asked for again
      const before = [...new Map(this.steps.map((step) => [step.mask[1], step.mask])).values()];
      const known = new Set(before.map(([, label]) => label));
      this.masks = [...before, ...queue.masks.filter(([, label]) => !known.has(label))];
      this.position = before.length;
      this.decidedBefore = before.length;
      this.undecided = queue.remaining - queue.masks.filter(([, label]) => known.has(label)).length;
      this.ahead.clear();
    } catch (error) {
      if (generation !== this.generation) return;
      this.message = (error as Error).message;
    }
    this.loading = false;
    this.moved();
  }

  // --- what is shown ---

  get current(): Reference | null {
    return this.masks[this.position] ?? null;
  }

  /** Why masks cannot be shown; null: they can. */
  get problem(): string | null {
    return this.message ?? this.ahead.failure;
  }

  get picture(): Picture | null {
    return this.current ? (this.ahead.pictures.get(this.current[1]) ?? null) : null;
  }

  get counts(): Counts {
    const last = new Map(this.steps.map((step) => [step.mask[1], step]));
    const right = [...last.values()].filter((step) => step.label !== null && step.label === step.proposed).length;
    return {
      decided: last.size,
      remaining: Math.max(0, this.undecided - (last.size - this.decidedBefore)),
      speed: perMinute(this.steps.map((step) => step.at)),
      precision: wilson(right, last.size),
    };
  }

  get canUndo(): boolean {
    return this.steps.length > 0;
  }

  get canRedo(): boolean {
    return this.undone.length > 0;
  }

  /** The names of all classes, most undecided masks first. */
  get classes(): string[] {
    return this.description?.classes.map((each) => each.name) ?? [];
  }

  private store(): void {
    const { mode, question } = this;
    sessionStorage.setItem(this.storageKey, JSON.stringify({ mode, question, steps: this.steps.slice(-STEPS * 20) }));
  }

  private moved(): void {
    this.store();
    this.changed();
    this.ahead.look(this.masks, this.position, this.question.field, this.classes);
  }

  /** Leaves masks out that were deleted since the queue was made. */
  private dropGone = (gone: Set<string>): void => {
    this.position = this.masks.slice(0, this.position).filter(([, label]) => !gone.has(label)).length;
    this.masks = this.masks.filter(([, label]) => !gone.has(label));
    this.moved();
  };

  /** Reads the shown mask again: it may have been edited in FiftyOne's viewer. */
  readAgain(): void {
    if (!this.current) return;
    this.ahead.forget(this.current[1]);
    this.moved();
  }

  // --- what a reviewer does ---

  /** The shown mask has this label, or none fits and it is rejected (null). */
  decide(label: string | null): boolean {
    const picture = this.picture;
    if (!picture || !this.current) return false;
    const { label_id, label: now, state } = this.ahead.details.get(this.current[1]) ?? picture.details;
    const earlier = this.steps.find((step) => step.mask[1] === label_id);
    const proposed = earlier ? earlier.proposed : now;
    this.take({ request: newId(), mask: this.current, label, before: { label: now, state }, proposed, at: Date.now() });
    this.undone = [];
    this.position++;
    this.moved();
    return true;
  }

  private take(step: Step): void {
    this.steps.push(step);
    const details = this.ahead.details.get(step.mask[1]);
    if (details) {
      details.state = step.label === null ? "rejected" : step.label === details.label ? "accepted" : "renamed";
      if (step.label !== null) details.label = step.label;
    }
    this.send("decide", step);
  }

  private send(kind: Entry["kind"], step: Step): void {
    const { request, mask, label } = step;
    const { dataset, author } = this;
    this.outbox.add({ kind, request, mask, label, dataset, author, field: this.question.field! });
  }

  skip(): void {
    if (this.current) this.position++;
    this.moved();
  }

  look(by: -1 | 1): void {
    this.position = Math.min(Math.max(this.position + by, 0), this.masks.length);
    this.moved();
  }

  undo(): boolean {
    const step = this.steps.pop();
    if (!step) return false;
    this.undone.push(step);
    Object.assign(this.ahead.details.get(step.mask[1]) ?? {}, step.before);
    this.send("undo", step);
    this.show(step.mask);
    return true;
  }

  redo(): boolean {
    const step = this.undone.pop();
    if (!step) return false;
    this.take({ ...step, request: newId(), at: Date.now() });
    this.show(step.mask);
    this.position++;
    this.moved();
    return true;
  }

  private show(mask: Reference): void {
    const place = this.masks.findIndex(([, label]) => label === mask[1]);
    if (place >= 0) this.position = place;
    this.moved();
  }

  /** The database says what a mask is now. */
  private answered = (entry: Entry, answer: Answer): void => {
    const details = this.ahead.details.get(entry.mask[1]);
    const waiting = this.outbox.entries.some((each) => each.mask[1] === entry.mask[1]);
    if (details && answer.state && !waiting) {
      details.label = answer.label;
      details.state = answer.state;
      details.decision = answer.decision;
    }
    // what did not come about does not count, and there is nothing to undo of it
    if (entry.kind === "decide" && answer.outcome !== "stored") {
      this.steps = this.steps.filter((step) => step.request !== entry.request);
    }
    this.changed();
  };

  /** Takes a message away, and shows the mask that it is about if asked to. */
  dismiss(entry: Entry, look: boolean): void {
    this.outbox.troubles = this.outbox.troubles.filter((trouble) => trouble.entry !== entry);
    if (!look) return this.changed();
    this.show(entry.mask);
    this.readAgain();
  }

  setAuthor(name: string): void {
    this.author = name;
    localStorage.setItem("gem-label-reviewer", name);
    this.changed();
  }
}

/** 24 hexadecimal digits. */
function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
