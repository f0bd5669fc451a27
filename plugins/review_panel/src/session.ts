// The state of a review: which mask is shown, what was decided, what can be undone. React draws what it says.
import { Ahead } from "./ahead";
import type { Picture } from "./drawing";
import type { ModeName, View } from "./modes";
import { Outbox, type Entry, type Trouble } from "./outbox";
import { Pages } from "./page/pages";
import { PhotoReview } from "./photo/review";
import { Photos } from "./photos";
import { Refusal } from "./server";
import type { Answer, Details, FieldDescription, Found, Order, Reference, Server } from "./server";
import { perMinute, wilson, type Interval } from "./statistics";
import { Steps, type Step } from "./steps";

export type Question = {
  field: string | null;
  order: Order;
  scope: "dataset" | "view" | "selected";
  label: string | null;
  runner_up: string | null;
  seed: number;
  phrase: string;
};

const WAIT = 3000; // milliseconds until what failed is tried again

export type Counts = { decided: number; remaining: number; speed: number | null; precision: Interval | null };

export class Session {
  question: Question = {
    field: null,
    order: "uncertain",
    scope: "dataset",
    label: null,
    runner_up: null,
    seed: 0,
    phrase: "",
  };
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
  readonly pages: Pages;
  readonly photoReview: PhotoReview;
  readonly steps: Steps;
  private readonly ahead: Ahead;
  private readonly listeners = new Set<() => void>();
  private generation = 0;
  private decidedBefore = 0;
  private isGridStale = false;

  constructor(
    readonly server: Server,
    readonly datasetId: string,
    readonly dataset: string,
  ) {
    this.outbox = new Outbox(() => this.server, `gem-label-unstored:${datasetId}`, this.changed, this.answered);
    const saw = (details: Details) => this.outbox.saw(details.label_id, details.decision);
    const photos = new Photos();
    this.ahead = new Ahead(server, photos, this.changed, this.dropGone, saw);
    this.pages = new Pages(this, photos, saw);
    this.photoReview = new PhotoReview(this, photos, saw);
    const stored = JSON.parse(sessionStorage.getItem(this.storageKey) ?? "null");
    if (stored) {
      this.question = { ...this.question, ...stored.question };
      this.mode = stored.mode;
    }
    this.steps = new Steps(stored?.steps);
    this.author = localStorage.getItem("gem-label-reviewer") ?? "";
    void this.begin();
  }

  /** What shows several masks at a time; null: one is shown. */
  private get view(): View | null {
    return { mask: null, page: this.pages, photo: this.photoReview, summary: null }[this.mode];
  }

  private get storageKey(): string {
    return `gem-label-review:${this.datasetId}`;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  getVersion = (): number => this.version;

  readonly changed = (): void => {
    this.version++;
    for (const listener of this.listeners) listener();
  };

  // --- what is asked ---

  /** Another field, order, class, ... to review. */
  ask(change: Partial<Question>): void {
    const field = change.field !== undefined && change.field !== this.question.field;
    this.question = { ...this.question, ...(field ? { label: null, runner_up: null } : {}), ...change };
    this.steps.clear();
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
      this.server.claims.reset(this.steps.last.keys());
      if (!description.field) this.masks = [];
      else if (this.view) await this.view.begin();
      else await this.makeQueue(generation);
      if (generation !== this.generation) return;
    } catch (error) {
      if (generation !== this.generation) return;
      this.message = (error as Error).message;
      if (!(error instanceof Refusal)) void this.beginAgain(generation);
    }
    this.loading = false;
    this.moved();
  }

  /** Asks again after a while for what a server that is busy or away did not answer. */
  private async beginAgain(generation: number): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, WAIT));
    if (generation === this.generation) void this.begin();
  }

  private async makeQueue(generation: number): Promise<void> {
    const queue = await this.server.makeQueue(this.question);
    if (generation !== this.generation) return;
    // what was decided before a reload comes first, to look back at; what is on its way is not asked for again
    const known = this.steps.last;
    const before = [...known.values()].map(({ mask }) => mask);
    const open = queue.masks.filter(([, label]) => !known.has(label));
    this.masks = [...before, ...open];
    this.position = before.length;
    this.counted(queue.remaining - (queue.masks.length - open.length));
    this.ahead.clear();
  }

  /** So many masks of what is asked are undecided now. */
  counted(undecided: number): void {
    this.undecided = undecided;
    this.decidedBefore = this.steps.decided.length;
  }

  // --- what is shown ---

  get current(): Reference | null {
    return this.masks[this.position] ?? null;
  }

  /** Why masks cannot be shown; null: they can. */
  get problem(): string | null {
    return this.message ?? (this.view ?? this.ahead).failure;
  }

  get picture(): Picture | null {
    return this.current ? (this.ahead.pictures.get(this.current[1]) ?? null) : null;
  }

  /** Whether what is reviewed is a random sample, which tells what all masks are like. */
  get isSample(): boolean {
    return this.question.order === "random" && this.mode === "mask";
  }

  /** Whether decisions that look like mistakes are reviewed. */
  get isSecondLook(): boolean {
    return this.question.order === "second_look" && this.mode === "mask";
  }

  get counts(): Counts {
    const last = this.steps.decided;
    const right = last.filter((change) => change.label !== null && change.label === change.proposed).length;
    return {
      decided: last.length,
      remaining: Math.max(0, this.undecided - (last.length - this.decidedBefore)),
      speed: perMinute(this.steps.moments),
      precision: wilson(right, last.length),
    };
  }

  get canUndo(): boolean {
    return this.steps.canUndo;
  }

  get canRedo(): boolean {
    return this.steps.canRedo;
  }

  /** What is known of a mask, as far as it is near what is shown. */
  private find(label: string): Details | undefined {
    return this.view ? this.view.find(label) : this.ahead.details.get(label);
  }

  /** The names of all classes, most undecided masks first. */
  get classes(): string[] {
    return this.description?.classes.map((each) => each.name) ?? [];
  }

  private store(): void {
    const { mode, question } = this;
    sessionStorage.setItem(this.storageKey, JSON.stringify({ mode, question, steps: this.steps.toStore() }));
  }

  /** Another mask or page is shown: it is remembered, and what comes next is made ready. */
  moved(): void {
    this.store();
    this.changed();
    if (this.view) this.view.look();
    else if (this.mode === "mask") {
      this.ahead.look(this.masks, this.position, this.question.field, this.classes, this.isSecondLook);
    }
  }

  /** Leaves masks out that were deleted since the queue was made. */
  private dropGone = (gone: Set<string>): void => {
    this.position = this.masks.slice(0, this.position).filter(([, label]) => !gone.has(label)).length;
    this.masks = this.masks.filter(([, label]) => !gone.has(label));
    this.moved();
  };

  /** Keeps the masks of the queue for this tab; those that somebody else took over meanwhile leave it. */
  async renewClaims(): Promise<void> {
    const lost = await this.server.renewClaims().catch(() => []);
    const gone = new Set(lost.filter((label) => !this.steps.last.has(label)));
    for (const label of gone) this.server.claims.lose(label);
    if (!gone.size) return;
    this.dropGone(gone);
    this.pages.dropGone(gone);
  }

  /** Reads the shown mask again: it may have been edited in FiftyOne's viewer. */
  readAgain(): void {
    if (this.view) this.view.readAgain();
    else if (this.current) this.ahead.forget(this.current[1]);
    this.moved();
  }

  // --- what a reviewer does ---

  /** The shown mask has this label, or none fits and it is rejected (null). */
  decide(label: string | null): boolean {
    const picture = this.picture;
    if (!picture || !this.current) return false;
    this.decideAll([{ details: this.find(this.current[1]) ?? picture.details, label }]);
    this.position++;
    this.moved();
    return true;
  }

  /** Some masks have these labels, or are rejected (null), in one step. */
  decideAll(choices: { details: Details; label: string | null }[]): void {
    const changes = choices.map(({ details: { sample_id, label_id, label: now, state }, label }) => {
      const earlier = this.steps.last.get(label_id);
      const mask: Reference = [sample_id, label_id];
      const proposed = earlier ? earlier.proposed : now;
      return { mask, label, before: { label: now, state }, proposed, isNew: earlier?.isNew };
    });
    this.take({ request: newId(), changes, at: Date.now() });
    this.steps.forgetUndone();
  }

  /** Adds a mask to a photo. Gives its id. */
  addMask(sample: string, label: string, found: Found): string {
    const mask: Reference = [sample, newId()];
    const before = { label: null, state: "undecided" } as const;
    const change = { mask, label, before, proposed: null, isNew: true, isAdded: true, found };
    this.take({ request: newId(), changes: [change], at: Date.now() });
    this.steps.forgetUndone();
    return mask[1];
  }

  private take(step: Step): void {
    this.steps.add(step);
    for (const { mask, label, found } of step.changes) {
      if (found && label) this.photoReview.include(mask, label, found);
      const details = this.find(mask[1]);
      if (!details || found) continue;
      details.state = label === null ? "rejected" : label === details.label ? "accepted" : "renamed";
      if (label !== null) details.label = label;
    }
    this.send("decide", step);
  }

  private send(kind: Entry["kind"], { request, changes }: Step): void {
    const { dataset, author } = this;
    const choices = changes.map(({ mask, label, isAdded, found }) => {
      return { mask, label, isAdded, found: kind === "decide" ? found : undefined };
    });
    const { field } = this.question;
    this.outbox.add({ kind, request, choices, dataset, author, field: field!, second_look: this.isSecondLook });
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
    const step = this.steps.undo();
    if (!step) return false;
    for (const { mask, before, isAdded } of step.changes) {
      if (isAdded) this.photoReview.exclude(mask);
      else Object.assign(this.find(mask[1]) ?? {}, before);
    }
    this.send("undo", step);
    if (this.view) this.view.showStep(step);
    else this.show(step.changes[0]!.mask);
    this.moved();
    return true;
  }

  redo(): boolean {
    const step = this.steps.redo();
    if (!step) return false;
    this.take({ ...step, request: newId(), at: Date.now() });
    if (this.view) this.view.showAfter(step);
    else {
      this.show(step.changes[0]!.mask);
      this.position++;
    }
    this.moved();
    return true;
  }

  private show(mask: Reference): void {
    const place = this.masks.findIndex(([, label]) => label === mask[1]);
    if (place >= 0) this.position = place;
  }

  /** The database says what masks are now. */
  private answered = (entry: Entry, answers: Answer[]): void => {
    this.isGridStale = true;
    const failed = new Set<string>();
    entry.choices.forEach(({ mask }, place) => {
      const { outcome, label, state, decision } = answers[place]!;
      if (outcome !== "stored") failed.add(mask[1]);
      const details = this.find(mask[1]);
      if (details && state && !this.outbox.isWaiting(mask[1])) Object.assign(details, { label, state, decision });
    });
    // what did not come about does not count, and there is nothing to undo of it
    if (entry.kind === "decide" && failed.size) this.steps.drop(entry.request, failed);
    this.view?.look(); // masks are read when nothing about them is on its way
    this.changed();
  };

  /** Whether decisions were stored since the App's grid was loaded; whoever asks loads it again. */
  takeStaleGrid(): boolean {
    const isStale = this.isGridStale && !this.outbox.entries.length;
    if (isStale) this.isGridStale = false;
    return isStale;
  }

  /** Takes a message away, and shows the mask that it is about if asked to. */
  dismiss(trouble: Trouble, look: boolean): void {
    this.outbox.troubles = this.outbox.troubles.filter((each) => each !== trouble);
    if (!look) return this.changed();
    const { mask } = trouble.choices[0]!;
    if (this.view) this.view.show(mask);
    else this.show(mask);
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
