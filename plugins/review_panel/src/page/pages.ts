// Pages of masks: which page is shown, what is marked on it, and which pages come next.
import type { View } from "../modes";
import type { Photos } from "../photos";
import type { Details, Reference } from "../server";
import type { Session } from "../session";
import type { Step } from "../steps";
import { Crops } from "./crops";
import { choicesOf, type Mark, type Marks } from "./marks";

export type Page = { label: string; masks: Reference[] };

export const SIZES = [12, 24, 40, 60];
const SIZE_STORAGE = "gem-label-page-size";

export class Pages implements View {
  list: Page[] = [];
  position = 0;
  marks: Marks = new Map();
  cursor: number | null = null;
  isLast = false; // no more pages come
  size = Number(localStorage.getItem(SIZE_STORAGE)) || 60;
  private message: string | null = null;
  private readonly crops: Crops;
  private label: string | null = null; // the class of the latest pages
  private finished: string[] = [];
  private seen = new Set<string>(); // masks that have a page
  private fetching = false;
  private generation = 0;

  constructor(
    private readonly session: Session,
    photos: Photos,
    saw: (details: Details) => void,
  ) {
    const isOnItsWay = (label: string) => session.outbox.isWaiting(label);
    this.crops = new Crops(() => session.server, photos, isOnItsWay, session.changed, this.dropGone, saw);
  }

  get details(): Map<string, Details> {
    return this.crops.details;
  }

  find(label: string): Details | undefined {
    return this.details.get(label);
  }

  get pictures(): Crops["crops"] {
    return this.crops.crops;
  }

  get failure(): string | null {
    return this.message ?? this.crops.failure;
  }

  get page(): Page | null {
    return this.list[this.position] ?? null;
  }

  /** The masks of the shown page; those that are not read yet are left out. */
  get shown(): Details[] {
    return (this.page?.masks ?? []).flatMap(([, label]) => this.details.get(label) ?? []);
  }

  /** Whether all masks of the shown page are seen: what nobody saw is not accepted. */
  get isReady(): boolean {
    return !this.session.loading && Boolean(this.page?.masks.every(([, label]) => this.pictures.has(label)));
  }

  /** Whether the next pages are drawn, too. */
  get isAhead(): boolean {
    return this.isReady && !this.fetching && this.crops.isComplete;
  }

  get hasEnded(): boolean {
    return this.isLast && this.position >= this.list.length;
  }

  // --- which pages there are ---

  /** Begins with the first page of what is asked. */
  async begin(): Promise<void> {
    this.generation++;
    this.list = [];
    this.label = this.session.question.label;
    this.finished = [];
    this.seen = new Set(this.session.steps.last.keys()); // some may be on their way to the database
    this.isLast = this.fetching = false;
    this.crops.clear();
    this.go(0);
    await this.fetch(true);
  }

  setSize(size: number): void {
    this.size = size;
    localStorage.setItem(SIZE_STORAGE, String(size));
    void this.session.begin();
  }

  /** Gets more pages of the class, or of the next one, before they are needed. */
  private async fetch(isFirst = false): Promise<void> {
    if (this.fetching || this.isLast || this.position < this.list.length - 2) return;
    const { question, server } = this.session;
    const { generation, finished, size, label: current } = this;
    this.fetching = true;
    try {
      const found = await server.makePages({ ...question, current, finished, size });
      if (generation !== this.generation) return;
      this.message = null;
      if (isFirst) this.session.counted(found.remaining - this.session.outbox.unstored);
      this.add(found.label, found.pages);
    } catch (error) {
      if (generation !== this.generation) return;
      if (isFirst) throw error;
      this.message = (error as Error).message;
      this.isLast = true;
    } finally {
      if (generation === this.generation) this.fetching = false;
    }
    this.look();
    this.session.changed();
  }

  private add(label: string | null, pages: Reference[][]): void {
    const news = pages.map((masks) => masks.filter(([, id]) => !this.seen.has(id))).filter((masks) => masks.length);
    for (const masks of news) {
      for (const [, id] of masks) this.seen.add(id);
      this.list.push({ label: label!, masks });
    }
    if (news.length) {
      this.label = label;
      return;
    }
    if (label !== null) this.finished.push(label);
    this.label = null;
    this.isLast = label === null || this.session.question.label !== null;
  }

  /** Makes ready what is shown and what comes next. */
  look(): void {
    const { field } = this.session.question;
    const near = [1, 2, -1].flatMap((by) => this.list[this.position + by]?.masks ?? []);
    this.crops.want(this.page?.masks ?? [], near, field, this.session.classes);
    void this.fetch();
  }

  fit(side: number, zoom: number): void {
    this.crops.fit(side, zoom);
  }

  readAgain(): void {
    this.crops.clear();
  }

  /** Leaves masks out that were deleted since the pages were made. */
  readonly dropGone = (gone: Set<string>): void => {
    for (const page of this.list) page.masks = page.masks.filter(([, label]) => !gone.has(label));
    this.position = this.list.slice(0, this.position).filter((page) => page.masks.length).length;
    this.list = this.list.filter((page) => page.masks.length);
    this.look();
  };

  // --- what is shown ---

  /** Another page, without a decision about this one. */
  go(position: number): void {
    this.position = Math.min(Math.max(position, 0), this.list.length);
    this.marks = new Map();
    this.cursor = null;
  }

  /** Shows the page of a mask. */
  show(mask: Reference): void {
    const place = this.placeOf(mask);
    if (place < 0) return;
    this.go(place);
    this.cursor = this.page!.masks.findIndex(([, label]) => label === mask[1]);
  }

  /** Shows the page that a step was about, marked as it was then. */
  showStep({ changes }: Step): void {
    let place = this.placeOf(changes[0]!.mask);
    if (place < 0) {
      place = this.position; // the tab was loaded again since
      this.list.splice(place, 0, { label: changes[0]!.before.label ?? "", masks: changes.map(({ mask }) => mask) });
    }
    this.go(place);
    const decided = new Map(changes.map((change) => [change.mask[1], change]));
    for (const [, id] of this.page!.masks) {
      const change = decided.get(id);
      if (!change) this.marks.set(id, { kind: "later" });
      else if (change.label === null) this.marks.set(id, { kind: "rejected" });
      else if (change.label !== change.before.label) this.marks.set(id, { kind: "class", label: change.label });
    }
  }

  /** Shows the page after the one that a step was about. */
  showAfter({ changes }: Step): void {
    this.go(this.placeOf(changes[0]!.mask) + 1);
  }

  private placeOf([, label]: Reference): number {
    return this.list.findIndex(({ masks }) => masks.some(([, each]) => each === label));
  }

  // --- what a reviewer does ---

  /** The masks that a class or a rejection is for: marked ones that have none yet, or else the one under the cursor. */
  get meant(): Details[] {
    const wrong = this.shown.filter(({ label_id }) => this.marks.get(label_id)?.kind === "wrong");
    const walked = this.cursor === null ? undefined : this.page?.masks[this.cursor];
    const under = walked && this.details.get(walked[1]);
    return wrong.length || !under ? wrong : [under];
  }

  mark(places: Iterable<number>, isWrong: boolean): void {
    for (const place of places) {
      const mask = this.page?.masks[place];
      if (!mask) continue;
      if (!isWrong) this.marks.delete(mask[1]);
      else if (!this.marks.has(mask[1])) this.marks.set(mask[1], { kind: "wrong" });
    }
    this.session.changed();
  }

  isMarked(place: number): boolean {
    const mask = this.page?.masks[place];
    return Boolean(mask && this.marks.has(mask[1]));
  }

  /** Gives the masks that are meant another class, rejects them, or leaves them for later. */
  set(mark: Mark): void {
    for (const { label_id } of this.meant) this.marks.set(label_id, mark);
    this.session.changed();
  }

  walk(place: number): void {
    this.cursor = place;
    this.session.changed();
  }

  /** Decides about the page as it is marked, and shows the next one. */
  accept(): boolean {
    if (!this.isReady) return false;
    const choices = choicesOf(this.shown, this.marks);
    if (choices.length) this.session.decideAll(choices);
    this.turn(1);
    return true;
  }

  turn(by: -1 | 1): void {
    this.go(this.position + by);
    this.session.moved();
  }
}
