// Which masks this tab has before it. Others are not shown them until it gives them back, or stops renewing its claim.
import type { Details, Reference } from "./server";

const STORAGE = "gem-label-holder";
const HELD = 200; // as many of the latest masks are renewed: more than a page and the next one

export class Claims {
  /** The id of this tab, the same after a reload. */
  readonly holder: string;
  private readonly given = new Set<string>(); // the latest are last

  constructor() {
    this.holder = sessionStorage.getItem(STORAGE) ?? crypto.randomUUID();
    sessionStorage.setItem(STORAGE, this.holder);
  }

  /** Another queue: of its masks, only those that were decided here are known. */
  reset(decided: Iterable<string>): void {
    this.given.clear();
    for (const label of decided) this.given.add(label);
  }

  /** Masks that this tab has not shown yet: they are left out if somebody else has them, or decided about them. */
  fresh(masks: Reference[]): string[] {
    return masks.map(([, label]) => label).filter((label) => !this.given.has(label));
  }

  receive(details: Details[]): void {
    for (const { label_id } of details) {
      this.given.delete(label_id);
      this.given.add(label_id);
    }
  }

  /** The masks whose claims are renewed. */
  held(): string[] {
    return [...this.given].slice(-HELD);
  }

  lose(label: string): void {
    this.given.delete(label);
  }
}
