import * as React from "react";
import type { Session } from "../session";
import type { Point } from "./asking";
import { drawAbove, drawPhoto, nameOf } from "./drawing";
import { maskAt, prepareShape } from "./picture";
import { placeOnPhoto, zoomAt, type Zoom } from "./view";

const DRAGGED = 6; // pixels from which a click is a box
const WHEEL = 400; // pixels of a wheel's turn for a factor of e

type Pressed = { at: Point; x: number; y: number };

type Properties = { session: Session; isOutlined: boolean; zoom: Zoom; onZoom: (zoom: Zoom) => void };

/** The photo with its masks. The mouse chooses a mask; a click beside all masks or a box asks for a missing thing. */
export function Stage({ session, isOutlined, zoom, onZoom }: Properties) {
  const review = session.photoReview;
  const { picture, mask, asking } = review;
  const base = React.useRef<HTMLCanvasElement>(null);
  const above = React.useRef<HTMLCanvasElement>(null);
  const pressed = React.useRef<Pressed | null>(null);
  const held = React.useRef<string | null>(null); // the mask that was clicked: the mouse chooses no other one
  const [dragged, setDragged] = React.useState<[Point, Point] | null>(null);
  const found = React.useMemo(() => (asking.mask ? prepareShape(asking.mask) : null), [asking.mask]);
  const other = review.chosenPair?.other ?? null;
  // what is drawn of masks; they are the same objects after a decision
  const states = picture?.masks.map(nameOf).join("\n");

  const drawBase = React.useCallback(() => {
    if (!base.current) return;
    if (!picture) return base.current.removeAttribute("data-photo"); // what was drawn stays until the next one is ready
    drawPhoto(base.current, picture, zoom, isOutlined);
    base.current.dataset.photo = picture.sample;
  }, [picture, picture?.masks, states, zoom, isOutlined]);
  const drawTop = React.useCallback(() => {
    if (!above.current) return;
    const { prompt } = asking;
    if (picture) drawAbove(above.current, { picture, zoom, chosen: mask, other, found, prompt, dragged });
    above.current.dataset.chosen = mask?.details.label_id ?? "";
    above.current.dataset.found = found ? String(asking.choice) : "";
  }, [picture, zoom, mask, states, other, found, asking.prompt, dragged]);
  React.useLayoutEffect(drawBase, [drawBase]);
  React.useLayoutEffect(drawTop, [drawTop]);
  React.useEffect(() => {
    const observer = new ResizeObserver(() => {
      drawBase();
      drawTop();
    });
    observer.observe(above.current!);
    return () => observer.disconnect();
  }, [drawBase, drawTop]);

  const placeOf = (event: React.MouseEvent): Point | null =>
    picture?.size ? placeOnPhoto(above.current!, picture.size, zoom, event) : null;
  const press = (event: React.PointerEvent) => {
    const at = placeOf(event);
    if (event.button !== 0 || !at) return;
    event.preventDefault(); // no text is selected
    above.current!.setPointerCapture(event.pointerId);
    pressed.current = { at, x: event.clientX, y: event.clientY };
  };
  const move = (event: React.PointerEvent) => {
    const at = placeOf(event);
    if (!at || !picture) return;
    const from = pressed.current;
    if (from) {
      const distance = Math.hypot(event.clientX - from.x, event.clientY - from.y);
      if (dragged || distance >= DRAGGED) setDragged([from.at, at]);
    } else if (!asking.prompt && (held.current === null || held.current !== review.chosen)) {
      const under = maskAt(picture, at);
      if (under) review.choose(under.details.label_id);
    }
  };
  const release = (event: React.PointerEvent) => {
    const from = pressed.current;
    const { place } = review;
    pressed.current = null;
    setDragged(null);
    if (!from || !place || !picture) return;
    if (dragged) {
      const [[x0, y0], [x1, y1]] = dragged;
      const box: [number, number, number, number] = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
      if (box[0] < box[2] && box[1] < box[3]) asking.box(place, box);
      return;
    }
    const under = event.shiftKey || event.altKey ? null : maskAt(picture, from.at);
    if (!under) return asking.point(place, from.at, !event.altKey, event.shiftKey || event.altKey);
    if (asking.prompt) asking.drop();
    held.current = under.details.label_id;
    review.choose(held.current);
  };

  return (
    <>
      <canvas
        ref={base}
        role="img"
        aria-label={picture ? `Photo with ${picture.masks.length} masks` : "No photo"}
        style={{ visibility: review.sample === null ? "hidden" : "visible" }}
      />
      <canvas
        ref={above}
        className="glr-above"
        role="img"
        aria-label={mask ? `Chosen: ${nameOf(mask)}` : "No mask is chosen"}
        onWheel={(event) => {
          const at = placeOf(event);
          const factor = Math.exp(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY) / WHEEL, 0.5));
          if (at) onZoom(zoomAt(above.current!, picture!.size!, zoom, factor, at));
        }}
        onPointerDown={press}
        onPointerMove={move}
        onPointerUp={release}
        onPointerCancel={() => {
          pressed.current = null;
          setDragged(null);
        }}
      />
    </>
  );
}
