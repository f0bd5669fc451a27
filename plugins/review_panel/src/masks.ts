// Masks: COCO's compressed run lengths to pixels, and the borders between pixels as a path.

/** Pixels of a mask, column by column: pixel (x, y) is at x * height + y. */
export function decodeMask(counts: string, width: number, height: number): Uint8Array {
  const pixels = new Uint8Array(width * height);
  const runs: number[] = [];
  let place = 0;
  let at = 0;
  while (at < counts.length) {
    let value = 0;
    let digit = 0;
    let shift = 0;
    do {
      digit = counts.charCodeAt(at++) - 48;
      value |= (digit & 31) << shift;
      shift += 5;
    } while (digit & 32);
    if (digit & 16) value |= -1 << shift; // the sign
    if (runs.length > 2) value += runs[runs.length - 2]!;
    if (runs.length % 2) pixels.fill(1, place, place + value);
    place += value;
    runs.push(value);
  }
  return pixels;
}

/** The borders of a mask as straight lines between pixels, in pixels of the mask. */
export function outlineOf(pixels: Uint8Array, width: number, height: number): Path2D {
  const path = new Path2D();
  const at = (x: number, y: number) =>
    x >= 0 && y >= 0 && x < width && y < height ? pixels[x * height + y]! : 0;
  for (let x = 0; x <= width; x++) {
    let start = -1;
    for (let y = 0; y <= height; y++) {
      const differs = y < height && at(x - 1, y) !== at(x, y);
      if (differs && start < 0) start = y;
      if (!differs && start >= 0) {
        path.moveTo(x, start);
        path.lineTo(x, y);
        start = -1;
      }
    }
  }
  for (let y = 0; y <= height; y++) {
    let start = -1;
    for (let x = 0; x <= width; x++) {
      const differs = x < width && at(x, y - 1) !== at(x, y);
      if (differs && start < 0) start = x;
      if (!differs && start >= 0) {
        path.moveTo(start, y);
        path.lineTo(x, y);
        start = -1;
      }
    }
  }
  return path;
}

/** The mask in one color, transparent elsewhere. */
export function stencilOf(pixels: Uint8Array, width: number, height: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(width, height);
  const colors = new Uint32Array(image.data.buffer);
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) if (pixels[x * height + y]) colors[y * width + x] = 0xff00a5ff; // orange
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
