// What is drawn: the mask with its surroundings, and the whole photo with a box around that part.
import { photoAddress } from "./app";
import { decodeMask, outlineOf, stencilOf } from "./masks";
import type { Photos } from "./photos";
import type { Details } from "./server";

/** A mask with everything that drawing it takes. */
export type Picture = {
  details: Details;
  photo: ImageBitmap | null;
  outline: Path2D;
  stencil: HTMLCanvasElement;
  problem: string | null;
};

export type Rectangle = { x: number; y: number; width: number; height: number };

export const MARGINS = [4, 2, 1, 0.5, 0.25, 0.1, 0.02]; // around the box, in its longer side; "+" is the next one
export const USUAL_ZOOM = 4;

export async function preparePicture(details: Details, photos: Photos): Promise<Picture> {
  const [width, height] = details.size;
  const pixels = decodeMask(details.counts, width, height);
  let photo: ImageBitmap | null = null;
  let problem = details.problem;
  try {
    photo = await photos.get(photoAddress(details.filepath));
  } catch (error) {
    problem = (error as Error).message;
  }
  return {
    details,
    photo,
    outline: outlineOf(pixels, width, height),
    stencil: stencilOf(pixels, width, height),
    problem,
  };
}

/** Makes a canvas as large as it is shown, in the screen's own pixels. */
export function fit(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d")!;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  return context;
}

/** The part of the photo that fills a canvas: the box in the middle, with a margin. */
export function partAround(details: Details, margin: number, canvas: HTMLCanvasElement): Rectangle {
  const [x, y, w, h] = details.box;
  const around = Math.max(w, h) * margin + 12;
  const aspect = canvas.width / canvas.height;
  let width = w + 2 * around;
  let height = h + 2 * around;
  if (width / height < aspect) width = height * aspect;
  else height = width / aspect;
  const [photoWidth, photoHeight] = details.photo ?? [width, height];
  const shift = (start: number, length: number, whole: number) =>
    length >= whole ? (whole - length) / 2 : Math.min(Math.max(start, 0), whole - length);
  return {
    x: shift(x + w / 2 - width / 2, width, photoWidth),
    y: shift(y + h / 2 - height / 2, height, photoHeight),
    width,
    height,
  };
}

/** Draws the mask large. Gives the part of the photo that is seen. */
export function drawMask(
  canvas: HTMLCanvasElement,
  picture: Picture,
  zoom: number,
  opacity: number,
  outlined: boolean,
): Rectangle {
  const context = fit(canvas);
  const { details, photo } = picture;
  const part = partAround(details, MARGINS[zoom]!, canvas);
  const scale = canvas.width / part.width;
  if (photo && details.photo) {
    context.setTransform(scale, 0, 0, scale, -part.x * scale, -part.y * scale);
    context.drawImage(photo, 0, 0, details.photo[0], details.photo[1]);
  }
  const [x, y, w, h] = details.box;
  const across = (scale * w) / details.size[0];
  const down = (scale * h) / details.size[1];
  context.setTransform(across, 0, 0, down, (x - part.x) * scale, (y - part.y) * scale);
  if (opacity > 0) {
    context.globalAlpha = opacity;
    context.imageSmoothingEnabled = false;
    context.drawImage(picture.stencil, 0, 0);
    context.imageSmoothingEnabled = true;
    context.globalAlpha = 1;
  }
  if (outlined) strokeTwice(context, picture.outline, across, down);
  return part;
}

/** A light line on a dark one, of these widths in pixels: one of them is seen on any photo. */
export function strokeTwice(
  context: CanvasRenderingContext2D,
  path: Path2D,
  across: number,
  down: number,
  [dark, light]: [number, number] = [5, 2],
): void {
  const ratio = window.devicePixelRatio || 1;
  const screen = new Path2D();
  screen.addPath(path, new DOMMatrix([across, 0, 0, down, 0, 0]));
  const { e, f } = context.getTransform();
  context.setTransform(1, 0, 0, 1, e, f);
  context.lineCap = "round";
  for (const [color, width] of [["#101010", dark], ["#ffffff", light]] as const) {
    context.strokeStyle = color;
    context.lineWidth = width * ratio;
    context.stroke(screen);
  }
}

/** Draws the whole photo, and a box around the part that is seen large. */
export function drawPhoto(canvas: HTMLCanvasElement, picture: Picture, part: Rectangle): void {
  const context = fit(canvas);
  const { details, photo } = picture;
  if (!photo || !details.photo) return;
  const [width, height] = details.photo;
  const scale = Math.min(canvas.width / width, canvas.height / height);
  const left = (canvas.width - width * scale) / 2;
  const top = (canvas.height - height * scale) / 2;
  context.drawImage(photo, left, top, width * scale, height * scale);
  const [x, y, w, h] = details.box;
  context.setTransform((scale * w) / details.size[0], 0, 0, (scale * h) / details.size[1], left + x * scale, top + y * scale);
  context.globalAlpha = 0.55;
  context.drawImage(picture.stencil, 0, 0);
  context.globalAlpha = 1;
  context.setTransform(1, 0, 0, 1, left, top);
  const ratio = window.devicePixelRatio || 1;
  const clip = (value: number, whole: number) => Math.min(Math.max(value, 0), whole);
  const [x0, x1] = [clip(part.x, width), clip(part.x + part.width, width)];
  const [y0, y1] = [clip(part.y, height), clip(part.y + part.height, height)];
  for (const [color, line] of [["#101010", 4], ["#ffffff", 2]] as const) {
    context.strokeStyle = color;
    context.lineWidth = line * ratio;
    context.strokeRect(x0 * scale, y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale);
  }
}
