// Photos one after the other: which is shown, which of its masks is chosen, and what is asked about it.
import type { View } from "../modes";
import type { Photos } from "../photos";
import type { Details, Found, Reference, RepeatedMasks } from "../server";
import type { Session } from "../session";
import type { Step } from "../steps";
import { Asking, type Place } from "./asking";
import { inReadingOrder, newDetails, preparePhoto, prepareShape, type PhotoMask, type PhotoPicture } from "./picture";

const KEPT = 6; // photos with their masks that stay ready

export class PhotoReview implements View {
  list: string[] = [];
  position = 0;
  chosen: string | null = null; // the id of a mask
  failure: string | null = null;
  readonly asking: Asking;
  private pair: RepeatedMasks | null = null; // that was walked to
  private readonly pictures = new Map<string, PhotoPicture>();
  private readonly preparing = new Set<string>();
  private generation = 0;

  constructor(
    private readonly session: Session,
    private readonly photos: Photos,
    private readonly saw: (details: Details) => void,
  ) {
    this.asking = new Asking(() => session.server, session.changed);
  }

  // --- which photos there are ---

  /** Begins with the first photo that has undecided masks. */
  async begin(): Promise<void> {
    const generation = ++this.generation;
    const { photos, remaining } = await this.session.server.makePhotoQueue(this.session.question);
    if (generation !== this.generation) return;
    const shown = this.sample;
    this.list = photos;
    this.forget();
    this.session.counted(remaining);
    this.go(Math.max(0, shown === null ? 0 : photos.indexOf(shown)));
  }

  /** Makes ready the shown photo and the next one. */
  look(): void {
    for (const place of [this.position, this.position + 1]) void this.prepare(this.list[place]);
  }

  private async prepare(sample: string | undefined): Promise<void> {
    const { field } = this.session.question;
    if (sample === undefined || !field || this.pictures.has(sample) || this.preparing.has(sample)) return;
    if (this.session.outbox.isWaitingFor(sample)) return; // it is read when that is stored
    const { generation } = this;
    this.preparing.add(sample);
    try {
      const details = await this.session.server.getPhoto(field, sample, this.session.classes);
      const picture = details && (await preparePhoto(details, this.photos));
      if (generation !== this.generation || this.session.outbox.isWaitingFor(sample)) return;
      this.failure = null;
      if (picture) this.keep(picture);
      else this.leaveOut(sample);
    } catch (error) {
      if (generation === this.generation) this.failure = (error as Error).message;
    } finally {
      if (generation === this.generation) this.preparing.delete(sample);
    }
    this.session.changed();
  }

  private keep(picture: PhotoPicture): void {
    for (const { details } of picture.masks) this.saw(details);
    this.pictures.set(picture.sample, picture);
    for (const sample of this.pictures.keys()) {
      if (this.pictures.size <= KEPT) break;
      if (sample !== this.sample) this.pictures.delete(sample);
    }
  }

  /** A photo is not in the dataset any more, or somebody else reviews it. */
  private leaveOut(sample: string): void {
    const place = this.list.indexOf(sample);
    this.list = this.list.filter((each) => each !== sample);
    if (place >= 0 && place < this.position) this.position--;
    this.look();
  }

  private forget(): void {
    this.generation++;
    this.pictures.clear();
    this.preparing.clear();
  }

  readAgain(): void {
    this.forget();
  }

  // --- what is shown ---

  get sample(): string | null {
    return this.list[this.position] ?? null;
  }

  get picture(): PhotoPicture | null {
    return this.sample === null ? null : (this.pictures.get(this.sample) ?? null);
  }

  /** The masks of the shown photo, row by row. */
  get masks(): PhotoMask[] {
    return this.picture?.masks ?? [];
  }

  get mask(): PhotoMask | null {
    return this.masks.find(({ details }) => details.label_id === this.chosen) ?? null;
  }

  get undecided(): PhotoMask[] {
    return this.masks.filter(({ details }) => details.state === "undecided");
  }

  /** The shown photo and its size, for questions about it. */
  get place(): Place | null {
    const { field } = this.session.question;
    const size = this.picture?.size;
    return field && size ? { field, sample_id: this.picture!.sample, size } : null;
  }

  /** What is known of a mask of a photo that is ready. */
  find(label: string): Details | undefined {
    for (const { masks } of this.pictures.values()) {
      const found = masks.find(({ details }) => details.label_id === label);
      if (found) return found.details;
    }
    return undefined;
  }

  /** Pairs of masks that may be of one thing, of which none is rejected. */
  get pairs(): RepeatedMasks[] {
    const open = new Set(this.masks.filter(({ details }) => details.state !== "rejected").map(idOf));
    return (this.picture?.repeats ?? []).filter(({ whole, part }) => open.has(whole) && open.has(part));
  }

  /** The pair that the chosen mask is in, and the other mask of it. */
  get chosenPair(): { pair: RepeatedMasks; other: PhotoMask } | null {
    const { chosen, pairs } = this;
    const isIn = ({ whole, part }: RepeatedMasks) => whole === chosen || part === chosen;
    const pair = pairs.find((each) => each === this.pair && isIn(each)) ?? pairs.find(isIn);
    const other = pair && this.masks.find(({ details }) => details.label_id === otherOf(pair, chosen!));
    return pair && other ? { pair, other } : null;
  }

  // --- what a reviewer does ---

  go(position: number): void {
    this.position = Math.min(Math.max(position, 0), this.list.length);
    this.chosen = this.pair = null;
    this.asking.drop();
  }

  turn(by: -1 | 1): void {
    this.go(this.position + by);
    this.session.moved();
  }

  choose(label: string | null): void {
    if (label === this.chosen) return;
    this.chosen = label;
    this.session.changed();
  }

  walk(by: -1 | 1): void {
    const ids = this.masks.map(idOf);
    const now = this.chosen === null ? -1 : ids.indexOf(this.chosen);
    const next = now < 0 ? (by > 0 ? 0 : ids.length - 1) : (now + by + ids.length) % ids.length;
    this.choose(ids[next] ?? null);
  }

  /** Walks to the next pair: to the whole of a part, and of duplicates to the one with the higher score. */
  nextPair(): void {
    const { pairs, chosenPair } = this;
    const place = chosenPair ? pairs.indexOf(chosenPair.pair) : -1;
    const pair = pairs[(place + 1) % pairs.length];
    if (!pair) return;
    this.pair = pair;
    const score = (label: string) => this.find(label)?.score ?? 0;
    const isPart = pair.kind === "duplicate" && score(pair.part) > score(pair.whole);
    this.choose(isPart ? pair.part : pair.whole);
  }

  swapPair(): void {
    const found = this.chosenPair;
    if (!found) return;
    this.pair = found.pair;
    this.choose(found.other.details.label_id);
  }

  /** Accepts the chosen mask of a pair and rejects the other one. */
  keepOfPair(): boolean {
    const { mask, chosenPair } = this;
    if (!mask?.details.label || !chosenPair) return false;
    const choices = [
      { details: mask.details, label: mask.details.label },
      { details: chosenPair.other.details, label: null },
    ];
    this.session.decideAll(choices);
    this.session.moved();
    return true;
  }

  /** The chosen mask has this label, or is rejected (null). */
  decide(label: string | null): boolean {
    const { mask } = this;
    if (!mask) return false;
    this.session.decideAll([{ details: mask.details, label }]);
    this.chosen = nextUndecided(this.masks, mask);
    this.session.moved();
    return true;
  }

  /** Accepts all undecided masks of the photo, and shows the next one. */
  acceptAll(): boolean {
    if (!this.picture?.photo || this.asking.prompt) return false; // what nobody saw is not accepted
    const choices = this.undecided
      .filter(({ details }) => details.label && !details.problem)
      .map(({ details }) => ({ details, label: details.label }));
    if (choices.length) this.session.decideAll(choices);
    this.turn(1);
    return true;
  }

  /** Keeps the mask that was found, with this label. */
  keepFound(label: string): boolean {
    const { mask, prompt } = this.asking;
    if (!mask || !prompt) return false;
    this.chosen = this.session.addMask(prompt.sample_id, label, mask);
    this.asking.drop();
    this.session.moved();
    return true;
  }

  // --- what the session tells ---

  /** A mask is added to its photo, before the database has it. */
  include([sample, label_id]: Reference, label: string, found: Found): void {
    const picture = this.pictures.get(sample);
    if (!picture || this.find(label_id)) return;
    const mask = { details: newDetails(picture, label_id, label, found), shape: prepareShape(found) };
    picture.masks = inReadingOrder([...picture.masks, mask], picture.size);
  }

  /** A mask that was added is taken out again. */
  exclude([sample, label_id]: Reference): void {
    const picture = this.pictures.get(sample);
    if (picture) picture.masks = picture.masks.filter(({ details }) => details.label_id !== label_id);
    if (this.chosen === label_id) this.chosen = null;
  }

  /** Shows the photo of a mask. */
  show([sample, label]: Reference): void {
    let place = this.list.indexOf(sample);
    if (place < 0) this.list.splice((place = this.position), 0, sample); // the tab was loaded again since
    if (place !== this.position) this.go(place);
    this.chosen = label;
  }

  showStep({ changes }: Step): void {
    this.show(changes[0]!.mask);
    if (changes[0]!.isAdded) this.chosen = null; // it is not there
  }

  showAfter({ changes }: Step): void {
    this.show(changes[0]!.mask);
  }
}

function idOf({ details }: PhotoMask): string {
  return details.label_id;
}

function otherOf({ whole, part }: RepeatedMasks, label: string): string {
  return whole === label ? part : whole;
}

/** The undecided mask after one, in reading order, or else the first one; null: all are decided. */
function nextUndecided(masks: PhotoMask[], mask: PhotoMask): string | null {
  const place = masks.indexOf(mask);
  const open = [...masks.slice(place + 1), ...masks.slice(0, place)].find(({ details }) => details.state === "undecided");
  return open ? idOf(open) : null;
}
