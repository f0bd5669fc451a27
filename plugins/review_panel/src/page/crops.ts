// The details and pictures of the masks of some pages: the one that is shown, and those around it.
import { photoAddress } from "../app";
import { MARGINS, partAround, strokeTwice } from "../drawing";
import { decodeMask, outlineOf } from "../masks";
import type { Photos } from "../photos";
import type { Details, Reference, Server } from "../server";

/** A mask with its surroundings on a canvas that a page shows as it is. */
export type Crop = { details: Details; canvas: HTMLCanvasElement; problem: string | null };

const TOGETHER = 60; // masks whose details are fetched in one request
const AT_ONCE = 4; // photos that are fetched and decoded at a time
const WAIT = 2000; // milliseconds until what failed is tried again
const LINES: [number, number] = [4, 1.6]; // of the outline, dark and light

export class Crops {
  readonly details = new Map<string, Details>();
  readonly crops = new Map<string, Crop>();
  failure: string | null = null;
  private shown: Set<string> = new Set();
  private wanted: Reference[] = [];
  private field: string | null = null;
  private classes: string[] = [];
  private side = 160; // of a canvas, in pixels of the screen
  private zoom = 4;
  private fetching = false;
  private drawing = 0;
  private readonly taken = new Set<string>(); // masks whose pictures are being made
  private generation = 0;

  constructor(
    private readonly server: () => Server,
    private readonly photos: Photos,
    private readonly isOnItsWay: (label: string) => boolean,
    private readonly changed: () => void,
    private readonly dropGone: (gone: Set<string>) => void,
    private readonly saw: (details: Details) => void,
  ) {}

  /** Whether everything that is shown or comes soon is drawn. */
  get isComplete(): boolean {
    return this.wanted.every(([, label]) => this.crops.has(label));
  }

  /** These masks are shown, and those come soon, the most urgent first; what is known of others is forgotten. */
  want(shown: Reference[], soon: Reference[], field: string | null, classes: string[]): void {
    Object.assign(this, { wanted: [...shown, ...soon], field, classes });
    this.shown = new Set(shown.map(([, label]) => label));
    const near = new Set(this.wanted.map(([, label]) => label));
    for (const label of this.details.keys()) if (!near.has(label)) this.details.delete(label);
    for (const label of this.crops.keys()) if (!near.has(label)) this.crops.delete(label);
    void this.fetch();
    this.draw();
  }

  /** Canvases of another size, or with more or less of the surroundings. */
  fit(side: number, zoom: number): void {
    if (side === this.side && zoom === this.zoom) return;
    Object.assign(this, { side, zoom });
    this.generation++;
    this.crops.clear();
    this.taken.clear();
    this.draw();
  }

  /** Everything is to be read again. */
  clear(): void {
    this.generation++;
    this.details.clear();
    this.crops.clear();
    this.taken.clear();
  }

  private async fetch(): Promise<void> {
    if (this.fetching || !this.field) return;
    // what is on its way to the database is read after it
    const isMissing = ([, label]: Reference) => !this.details.has(label) && !this.isOnItsWay(label);
    const missing = this.wanted.filter(isMissing).slice(0, TOGETHER);
    if (!missing.length) return;
    const generation = this.generation;
    const gone = new Set(missing.map(([, label]) => label));
    this.fetching = true;
    try {
      const found = await this.server().getDetails(this.field, missing, this.classes);
      this.failure = null;
      for (const details of generation === this.generation ? found : []) {
        gone.delete(details.label_id);
        if (this.isOnItsWay(details.label_id)) continue;
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
    this.draw();
    void this.fetch();
  }

  private draw(): void {
    for (const [, label] of this.wanted) {
      if (this.drawing >= AT_ONCE) return;
      const details = this.details.get(label);
      if (!details || this.crops.has(label) || this.taken.has(label)) continue;
      this.taken.add(label);
      this.drawing++;
      void this.drawOne(details, this.generation).then(() => {
        this.drawing--;
        this.draw();
      });
    }
  }

  private async drawOne(details: Details, generation: number): Promise<void> {
    let photo: ImageBitmap | null = null;
    let problem = details.problem;
    try {
      photo = await this.photos.get(photoAddress(details.filepath));
    } catch (error) {
      problem = (error as Error).message;
    }
    if (generation !== this.generation) return;
    const label = details.label_id;
    this.taken.delete(label);
    if (this.details.get(label) !== details) return;
    this.crops.set(label, { details, canvas: drawCrop(details, photo, this.side, MARGINS[this.zoom]!), problem });
    if (this.shown.has(label) || this.isComplete) this.changed();
  }
}

/** A mask with its surroundings and its outline, as a square canvas. */
function drawCrop(details: Details, photo: ImageBitmap | null, side: number, margin: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d")!;
  context.imageSmoothingQuality = "high";
  const part = partAround(details, margin, canvas);
  const scale = side / part.width;
  if (photo && details.photo) {
    context.setTransform(scale, 0, 0, scale, -part.x * scale, -part.y * scale);
    context.drawImage(photo, 0, 0, details.photo[0], details.photo[1]);
  }
  const [x, y, w, h] = details.box;
  const [width, height] = details.size;
  const [across, down] = [(scale * w) / width, (scale * h) / height];
  context.setTransform(across, 0, 0, down, (x - part.x) * scale, (y - part.y) * scale);
  const outline = outlineOf(decodeMask(details.counts, width, height), width, height);
  strokeTwice(context, outline, across, down, LINES);
  return canvas;
}
