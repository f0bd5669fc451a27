// A photo with all its masks, ready to be drawn.
import { photoAddress } from "../app";
import { decodeMask, outlineOf, stencilOf } from "../masks";
import type { Photos } from "../photos";
import type { Details, Found, PhotoDetails, RepeatedMasks } from "../server";
import type { Point } from "./asking";

/** A shape in its box, in pixels of the photo. */
export type Shape = {
  box: [number, number, number, number];
  size: [number, number];
  pixels: Uint8Array;
  outline: Path2D;
  stencil: HTMLCanvasElement;
  area: number; // in pixels of the photo
  peak: number; // where its highest pixels are, across, in pixels of the photo
};

export type PhotoMask = { details: Details; shape: Shape };

export type PhotoPicture = {
  sample: string;
  filepath: string;
  size: [number, number] | null;
  photo: ImageBitmap | null;
  masks: PhotoMask[];
  repeats: RepeatedMasks[];
  problem: string | null;
};

type Drawn = { box: [number, number, number, number]; size: [number, number]; counts: string };

export function prepareShape({ box, size, counts }: Drawn): Shape {
  const [width, height] = size;
  const pixels = decodeMask(counts, width, height);
  let set = 0;
  for (const pixel of pixels) set += pixel;
  const area = (set * box[2] * box[3]) / (width * height);
  const outline = outlineOf(pixels, width, height);
  const peak = box[0] + (peakOf(pixels, width, height) * box[2]) / width;
  return { box, size, pixels, outline, stencil: stencilOf(pixels, width, height), area, peak };
}

/** The column of the highest pixel of a mask, the middle one where there are several. */
function peakOf(pixels: Uint8Array, width: number, height: number): number {
  let highest = height;
  let columns: number[] = [];
  for (let x = 0; x < width; x++) {
    const y = pixels.subarray(x * height, x * height + Math.min(highest + 1, height)).indexOf(1);
    if (y < 0) continue;
    if (y < highest) columns = [];
    highest = y;
    columns.push(x);
  }
  return (columns[columns.length >> 1] ?? width / 2) + 0.5;
}

export async function preparePhoto(details: PhotoDetails, photos: Photos): Promise<PhotoPicture> {
  const { sample_id: sample, filepath, photo: size, repeats } = details;
  let photo: ImageBitmap | null = null;
  let problem = size ? null : "the size of the photo is not known";
  try {
    photo = await photos.get(photoAddress(filepath));
  } catch (error) {
    problem = (error as Error).message;
  }
  const masks = details.masks.map((each) => ({ details: each, shape: prepareShape(each) }));
  return { sample, filepath, size, photo, masks: inReadingOrder(masks, size), repeats, problem };
}

/** The details of a mask that a reviewer adds, before the database has it. */
export function newDetails(picture: PhotoPicture, label_id: string, label: string, found: Found): Details {
  return {
    sample_id: picture.sample,
    label_id,
    filepath: picture.filepath,
    photo: picture.size,
    box: found.box,
    size: found.size,
    counts: found.counts,
    label,
    score: found.classes.find(([name]) => name === label)?.[1] ?? null,
    state: "accepted",
    decision: null,
    classes: found.classes.filter(([name]) => name !== label),
    problem: null,
  };
}

const ROWS = 6; // of a photo, which is read row by row

export function inReadingOrder(masks: PhotoMask[], size: [number, number] | null): PhotoMask[] {
  const row = ({ shape: { box } }: PhotoMask) => Math.floor(((box[1] + box[3] / 2) / (size?.[1] ?? 1)) * ROWS);
  const across = ({ shape: { box } }: PhotoMask) => box[0] + box[2] / 2;
  return [...masks].sort((one, other) => row(one) - row(other) || across(one) - across(other));
}

export function contains({ box: [x, y, width, height], size, pixels }: Shape, [left, top]: Point): boolean {
  const column = Math.floor(((left - x) * size[0]) / width);
  const line = Math.floor(((top - y) * size[1]) / height);
  return column >= 0 && line >= 0 && column < size[0] && line < size[1] && pixels[column * size[1] + line] === 1;
}

/** The smallest mask at a point; rejected ones are looked through. */
export function maskAt(picture: PhotoPicture, point: Point): PhotoMask | null {
  const here = picture.masks.filter(({ details, shape }) => details.state !== "rejected" && contains(shape, point));
  return here.sort((one, other) => one.shape.area - other.shape.area)[0] ?? null;
}
