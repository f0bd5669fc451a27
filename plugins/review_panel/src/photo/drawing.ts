// A photo with its masks: a layer of the photo, outlines and labels, and one above it of what is chosen and asked.
import { fit, strokeTwice } from "../drawing";
import type { State } from "../server";
import type { Point, Prompt } from "./asking";
import { placeLabels, type Box } from "./labels";
import type { PhotoMask, PhotoPicture, Shape } from "./picture";
import { viewOf, type View, type Zoom } from "./view";

export const SYMBOLS: Record<State, string> = { undecided: "", accepted: "✓ ", rejected: "✗ ", renamed: "✎ " };

const FONT = 13; // pixels
const PLAIN: [number, number] = [4, 1.5];
const THIN: [number, number] = [3, 1];
const BOLD: [number, number] = [8, 3.5];
const DASHES = [9, 6];

export function nameOf({ details }: PhotoMask): string {
  return SYMBOLS[details.state] + (details.label ?? "(no label)");
}

/** Draws the photo with the outlines and labels of its masks; rejected masks are dashed and without labels. */
export function drawPhoto(canvas: HTMLCanvasElement, picture: PhotoPicture, zoom: Zoom, isOutlined: boolean): void {
  const context = fit(canvas);
  if (!picture.photo || !picture.size) return;
  const view = viewOf(canvas, picture.size, zoom);
  const [width, height] = picture.size;
  context.drawImage(picture.photo, view.left, view.top, width * view.scale, height * view.scale);
  if (!isOutlined) return;
  for (const { details, shape } of picture.masks) {
    const isRejected = details.state === "rejected";
    strokeShape(context, view, shape, isRejected ? THIN : PLAIN, isRejected);
  }
  const labeled = picture.masks.filter(({ details }) => details.state !== "rejected");
  drawLabels(context, view, picture.size, labeled);
}

type Above = {
  picture: PhotoPicture;
  zoom: Zoom;
  chosen: PhotoMask | null;
  other: PhotoMask | null; // of the pair that the chosen mask is in
  found: Shape | null;
  prompt: Prompt | null;
  dragged: [Point, Point] | null;
};

/** Draws what is chosen and what is asked above the photo. */
export function drawAbove(canvas: HTMLCanvasElement, above: Above): void {
  const { picture, zoom, chosen, other, found, prompt, dragged } = above;
  const context = fit(canvas);
  if (!picture.size) return;
  const view = viewOf(canvas, picture.size, zoom);
  if (chosen && !prompt) {
    fillShape(context, view, chosen.shape, 0.3);
    strokeShape(context, view, chosen.shape, BOLD);
    if (other) strokeShape(context, view, other.shape, [5, 1.5], true); // above, as the two may coincide
    const taken = drawLabels(context, view, picture.size, [chosen], { isBold: true });
    if (other) drawLabels(context, view, picture.size, [other], { taken });
  }
  if (found) {
    fillShape(context, view, found, 0.4);
    strokeShape(context, view, found, BOLD, true);
  }
  if (prompt?.box) strokeBox(context, view, [prompt.box[0], prompt.box[1]], [prompt.box[2], prompt.box[3]]);
  for (const point of prompt?.points ?? []) drawPoint(context, view, point, true);
  for (const point of prompt?.negative_points ?? []) drawPoint(context, view, point, false);
  if (dragged) strokeBox(context, view, ...dragged);
}

function placeShape(context: CanvasRenderingContext2D, { scale, left, top }: View, { box, size }: Shape): [number, number] {
  const across = (scale * box[2]) / size[0];
  const down = (scale * box[3]) / size[1];
  context.setTransform(across, 0, 0, down, left + box[0] * scale, top + box[1] * scale);
  return [across, down];
}

function strokeShape(
  context: CanvasRenderingContext2D,
  view: View,
  shape: Shape,
  widths: [number, number],
  isDashed = false,
): void {
  const [across, down] = placeShape(context, view, shape);
  const ratio = window.devicePixelRatio || 1;
  context.setLineDash(isDashed ? DASHES.map((length) => length * ratio) : []);
  strokeTwice(context, shape.outline, across, down, widths);
  context.setLineDash([]);
  context.setTransform(1, 0, 0, 1, 0, 0);
}

function fillShape(context: CanvasRenderingContext2D, view: View, shape: Shape, opacity: number): void {
  placeShape(context, view, shape);
  context.globalAlpha = opacity;
  context.imageSmoothingEnabled = false;
  context.drawImage(shape.stencil, 0, 0);
  context.imageSmoothingEnabled = true;
  context.globalAlpha = 1;
  context.setTransform(1, 0, 0, 1, 0, 0);
}

function onCanvas({ scale, left, top }: View, [x, y, width, height]: [number, number, number, number]): Box {
  return { x: left + x * scale, y: top + y * scale, width: width * scale, height: height * scale };
}

/** Writes the names of masks at them, clear of the boxes that are taken. Gives the boxes of the names. */
function drawLabels(
  context: CanvasRenderingContext2D,
  view: View,
  size: [number, number],
  masks: PhotoMask[],
  { isBold = false, taken = [] }: { isBold?: boolean; taken?: Box[] } = {},
): Box[] {
  const ratio = window.devicePixelRatio || 1;
  const font = FONT * ratio * (isBold ? 1.15 : 1);
  context.font = `${isBold ? 700 : 500} ${font}px Palanquin, system-ui, sans-serif`;
  context.textBaseline = "middle";
  const names = masks.map(nameOf);
  const sizes = names.map((name): [number, number] => [context.measureText(name).width + 0.8 * font, 1.45 * font]);
  const boxes = masks.map(({ shape }) => ({
    ...onCanvas(view, shape.box),
    peak: view.left + shape.peak * view.scale,
  }));
  const places = placeLabels(boxes, sizes, onCanvas(view, [0, 0, ...size]), taken);
  places.forEach((place, i) => {
    if (!place) return;
    context.fillStyle = isBold ? "#fff" : "#101010c8";
    context.fillRect(place.x, place.y, place.width, place.height);
    if (isBold) {
      context.strokeStyle = "#101010";
      context.lineWidth = 2 * ratio;
      context.strokeRect(place.x, place.y, place.width, place.height);
    }
    context.fillStyle = isBold ? "#101010" : "#fff";
    context.fillText(names[i]!, place.x + 0.4 * font, place.y + place.height / 2);
  });
  return places.flatMap((place) => place ?? []);
}

function strokeBox(context: CanvasRenderingContext2D, view: View, [x0, y0]: Point, [x1, y1]: Point): void {
  const { x, y, width, height } = onCanvas(view, [x0, y0, x1 - x0, y1 - y0]);
  const ratio = window.devicePixelRatio || 1;
  for (const [color, line] of [["#101010", 4], ["#ffffff", 2]] as const) {
    context.strokeStyle = color;
    context.lineWidth = line * ratio;
    context.strokeRect(x, y, width, height);
  }
}

/** A disc with a plus, or with a minus for a point that is not in the thing. */
function drawPoint(context: CanvasRenderingContext2D, view: View, [left, top]: Point, isInside: boolean): void {
  const { x, y } = onCanvas(view, [left, top, 0, 0]);
  const ratio = window.devicePixelRatio || 1;
  const arm = 4 * ratio;
  context.beginPath();
  context.arc(x, y, 8 * ratio, 0, 2 * Math.PI);
  context.fillStyle = isInside ? "#fff" : "#101010";
  context.fill();
  context.lineWidth = 2 * ratio;
  context.strokeStyle = isInside ? "#101010" : "#fff";
  context.stroke();
  context.beginPath();
  context.moveTo(x - arm, y);
  context.lineTo(x + arm, y);
  if (isInside) {
    context.moveTo(x, y - arm);
    context.lineTo(x, y + arm);
  }
  context.stroke();
}
