// Where the photo lies on a canvas, and where the mouse is on the photo.
import type { Point } from "./asking";

/** How much of the photo is shown, and what is in the middle, in pixels of the photo. */
export type Zoom = { level: number; center: Point };

export const WHOLE: Zoom = { level: 1, center: [0, 0] };
const MOST = 8;

/** In the canvas's pixels. */
export type View = { scale: number; left: number; top: number };

export function viewOf(canvas: HTMLCanvasElement, [width, height]: [number, number], { level, center }: Zoom): View {
  const ratio = window.devicePixelRatio || 1;
  const [across, down] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
  const scale = level * Math.min(across / width, down / height);
  const start = (shown: number, length: number, middle: number) =>
    length <= shown ? (shown - length) / 2 : Math.min(Math.max(shown / 2 - middle, shown - length), 0);
  return {
    scale,
    left: start(across, width * scale, center[0] * scale),
    top: start(down, height * scale, center[1] * scale),
  };
}

/** A place of the mouse in pixels of the photo; null: beside the photo. */
export function placeOnPhoto(
  canvas: HTMLCanvasElement,
  size: [number, number],
  zoom: Zoom,
  { clientX, clientY }: { clientX: number; clientY: number },
): Point | null {
  const ratio = window.devicePixelRatio || 1;
  const { scale, left, top } = viewOf(canvas, size, zoom);
  const bounds = canvas.getBoundingClientRect();
  const x = ((clientX - bounds.left) * ratio - left) / scale;
  const y = ((clientY - bounds.top) * ratio - top) / scale;
  return x >= 0 && y >= 0 && x < size[0] && y < size[1] ? [x, y] : null;
}

/** Nearer or farther by a factor, with this point in the middle. */
export function zoomTo({ level }: Zoom, factor: number, center: Point): Zoom {
  return { level: Math.min(Math.max(level * factor, 1), MOST), center };
}

/** Nearer or farther by a factor; this point of the photo stays where it is on the canvas. */
export function zoomAt(canvas: HTMLCanvasElement, size: [number, number], zoom: Zoom, factor: number, at: Point): Zoom {
  const ratio = window.devicePixelRatio || 1;
  const { scale, left, top } = viewOf(canvas, size, zoom);
  const { level } = zoomTo(zoom, factor, at);
  const nearer = zoom.level / level;
  const x = ((canvas.clientWidth * ratio) / 2 - left) / scale;
  const y = ((canvas.clientHeight * ratio) / 2 - top) / scale;
  return { level, center: [at[0] + (x - at[0]) * nearer, at[1] + (y - at[1]) * nearer] };
}
