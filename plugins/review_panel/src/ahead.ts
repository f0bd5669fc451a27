// What is fetched and decoded before it is needed: details and pictures of the masks around the one that is shown.
import { preparePicture, type Picture } from "./drawing";
import type { Photos } from "./photos";
import type { Details, Reference, Server } from "./server";

const AHEAD = 24; // masks whose details are fetched before they are needed
const AT_ONCE = 20;
const READY = 6; // masks whose pictures are prepared before they are needed
const KEPT = 12; // pictures before and after the shown one that stay
const KEPT_DETAILS = 100; // as many details
const WAIT = 2000; // milliseconds until what failed is tried again

export class Ahead {
  readonly details = new Map<string, Details>();
  readonly pictures = new Map<string, Picture>();
  failure: string | null = null;
  private readonly preparing = new Set<string>();
  private masks: Reference[] = [];
  private position = 0;
  private field: string | null = null;
  private classes: string[] = [];
  private isSecondLook = false;
  private fetching = false;
  private generation = 0;

  constructor(
    private readonly server: Server,
    private readonly photos: Photos,
    private readonly changed: () => void,
    private readonly dropGone: (gone: Set<string>) => void,
    private readonly saw: (details: Details) => void,
  ) {}

  /** The mask at a position is shown: what comes next is made ready. */
  look(masks: Reference[], position: number, field: string | null, classes: string[], isSecondLook: boolean): void {
    Object.assign(this, { masks, position, field, classes, isSecondLook });
    void this.fetch();
    this.prepare();
    this.dropOld();
  }

  /** Another queue: labels may be others now. */
  clear(): void {
    this.generation++;
    this.details.clear();
    this.pictures.clear();
    this.preparing.clear();
  }

  /** A mask is to be read again. */
  forget(label: string): void {
    this.details.delete(label);
    this.pictures.delete(label);
  }

  private around(before: number, after: number): Reference[] {
    return this.masks.slice(Math.max(0, this.position - before), this.position + after);
  }

  private async fetch(): Promise<void> {
    if (this.fetching || !this.field) return;
    const missing = this.around(2, AHEAD).filter(([, label]) => !this.details.has(label));
    const isUrgent = this.around(0, READY).some((mask) => missing.includes(mask));
    const isRest = this.position + AHEAD >= this.masks.length;
    // a request for each mask would cost more than some for many
    if (!missing.length || (!isUrgent && !isRest && missing.length < AT_ONCE / 2)) return;
    const wanted = missing.slice(0, AT_ONCE);
    const generation = this.generation;
    const gone = new Set(wanted.map(([, label]) => label));
    this.fetching = true;
    try {
      const found = await this.server.getDetails(this.field, wanted, this.classes, this.isSecondLook);
      this.failure = null;
      for (const details of generation === this.generation ? found : []) {
        gone.delete(details.label_id);
        this.details.set(details.label_id, details);
        this.saw(details);
      }
    } catch (error) {
      gone.clear();
      this.failure = (error as Error).message;
      this.changed();
      await new Promise((resolve) => setTimeout(resolve, WAIT));
    }
    this.fetching = false;
    if (generation === this.generation && gone.size) this.dropGone(gone);
    this.changed();
    this.prepare();
    void this.fetch();
  }

  private prepare(): void {
    const near = this.around(1, READY);
    const generation = this.generation;
    // the one before is the least urgent
    for (const [, label] of this.position ? [...near.slice(1), near[0]!] : near) {
      const details = this.details.get(label);
      if (!details || this.pictures.has(label) || this.preparing.has(label)) continue;
      this.preparing.add(label);
      void preparePicture(details, this.photos).then((picture) => {
        if (generation !== this.generation) return;
        this.preparing.delete(label);
        if (this.details.get(label) === details) this.pictures.set(label, picture);
        else this.prepare(); // it was read again meanwhile
        this.changed();
      });
    }
  }

  /** Memory stays the same however long a review is. */
  private dropOld(): void {
    const pictures = new Set(this.around(KEPT, KEPT).map(([, label]) => label));
    for (const label of this.pictures.keys()) if (!pictures.has(label)) this.pictures.delete(label);
    const details = new Set(this.around(KEPT_DETAILS, KEPT_DETAILS).map(([, label]) => label));
    for (const label of this.details.keys()) if (!details.has(label)) this.details.delete(label);
  }
}
