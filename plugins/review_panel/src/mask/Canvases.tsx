import * as React from "react";
import { drawMask, drawPhoto, type Picture } from "../drawing";

export type Look = { zoom: number; opacity: number; outlined: boolean };

/** The mask with its surroundings, and the whole photo; both are drawn before the browser paints. */
export function useCanvases(picture: Picture | null, look: Look) {
  const stage = React.useRef<HTMLCanvasElement>(null);
  const photo = React.useRef<HTMLCanvasElement>(null);
  const draw = React.useCallback(() => {
    if (!stage.current || !photo.current) return;
    if (!picture) {
      stage.current.removeAttribute("data-mask");
      return; // what was drawn before stays until the next picture is ready
    }
    const part = drawMask(stage.current, picture, look.zoom, look.opacity, look.outlined);
    drawPhoto(photo.current, picture, part);
    stage.current.dataset.mask = picture.details.label_id;
  }, [picture, look.zoom, look.opacity, look.outlined]);
  React.useLayoutEffect(draw, [draw]);
  React.useEffect(() => {
    const observer = new ResizeObserver(draw);
    for (const canvas of [stage.current, photo.current]) if (canvas) observer.observe(canvas);
    return () => observer.disconnect();
  }, [draw]);
  return { stage, photo };
}
