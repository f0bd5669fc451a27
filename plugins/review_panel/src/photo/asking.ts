// A thing that is missing: points and a box on the photo, and what SAM finds there.
import type { Found, Server } from "../server";

export type Point = [x: number, y: number];

/** The photo that is asked about, and its size in pixels. */
export type Place = { field: string; sample_id: string; size: [number, number] };

/** What is asked, in pixels of the photo. */
export type Prompt = Place & {
  points: Point[];
  negative_points: Point[];
  box: [number, number, number, number] | null;
};

export class Asking {
  prompt: Prompt | null = null;
  found: Found[] = []; // what is meant most likely, then a part of it or more
  choice = 0;
  isLooking = false;
  /** Why nothing is found; null: something is, or it is not known yet. */
  message: string | null = null;
  /** Why no class is proposed. */
  reason: string | null = null;
  private answered: Prompt | null = null;

  constructor(
    private readonly server: () => Server,
    private readonly changed: () => void,
  ) {}

  /** The mask that Enter keeps. */
  get mask(): Found | null {
    return this.found[this.choice] ?? null;
  }

  /** A point that is in the thing, or not: of another thing, or one more for what is asked. */
  point(place: Place, point: Point, isInside: boolean, isMore: boolean): void {
    const { points, negative_points, box } = (isMore && this.prompt) || { points: [], negative_points: [], box: null };
    const inside = isInside ? [...points, point] : points;
    if (!inside.length && !box) return; // where a thing is not does not tell where it is
    this.ask({ ...place, points: inside, negative_points: isInside ? negative_points : [...negative_points, point], box });
  }

  /** A box around the thing. */
  box(place: Place, box: [number, number, number, number]): void {
    this.ask({ ...place, points: [], negative_points: [], box });
  }

  /** Another of the masks that a single point may mean. */
  next(): void {
    if (this.found.length) this.choice = (this.choice + 1) % this.found.length;
    this.changed();
  }

  drop(): void {
    this.prompt = this.message = this.reason = null;
    this.found = [];
    this.changed();
  }

  private ask(prompt: Prompt): void {
    this.prompt = prompt;
    this.message = null;
    if (!this.isLooking) void this.look();
    this.changed();
  }

  /** One request at a time: the answer to what is not asked any more is passed over. */
  private async look(): Promise<void> {
    this.isLooking = true;
    while (this.prompt && this.prompt !== this.answered) {
      const prompt = this.prompt;
      let answer: { found: Found[]; message: string | null; reason: string | null };
      try {
        answer = { ...(await this.server().findMasks(prompt)), message: null };
      } catch (error) {
        answer = { found: [], reason: null, message: (error as Error).message };
      }
      this.answered = prompt;
      if (this.prompt === prompt) Object.assign(this, answer, { choice: 0 });
    }
    this.isLooking = false;
    this.changed();
  }
}
