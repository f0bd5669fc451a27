// What a page looks like: lines and symbols tell marks apart, colors are the App's.

export const PAGE_STYLES = `
.glr-page { display: grid; grid-template-rows: auto minmax(0, 1fr) auto auto; gap: 8px; min-height: 0; min-width: 0; }
.glr-head { display: flex; flex-wrap: wrap; gap: 2px 16px; align-items: baseline; color: var(--fo-palette-text-secondary); min-height: 25px; }
.glr-head b { color: var(--fo-palette-text-primary); }
.glr-place { position: relative; min-height: 0; min-width: 0; }
.glr-grid { position: absolute; inset: 0; display: grid; align-content: start; justify-content: start; overflow: hidden; touch-action: none;
  user-select: none; }
.glr button.glr-cell { position: relative; display: block; padding: 0; border: 0; border-radius: 3px; overflow: hidden; background: #202020; }
.glr-crop, .glr-crop canvas { display: block; width: 100%; height: 100%; overflow: hidden; }
.glr-cell::after { content: ""; position: absolute; inset: 0; border-radius: 3px; pointer-events: none; }
.glr-cell[data-mark]::after { border: 4px dashed #fff; }
.glr-cell[data-mark=class]::after { border-style: double; border-width: 6px; }
.glr-cell[data-mark=later]::after { border-style: dotted; }
.glr-cell[data-mark] .glr-crop { border: 6px solid #000; }
.glr-cell[data-mark] canvas { opacity: .5; }
.glr-cell[data-cursor]::before { content: ""; position: absolute; inset: 0; z-index: 1; border: 4px solid var(--accent); border-radius: 3px; }
.glr-badge { position: absolute; left: 6px; bottom: 6px; max-width: calc(100% - 12px); padding: 0 5px; border-radius: 3px; background: #000d;
  color: #fff; font-size: 12px; line-height: 18px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.glr-problem { bottom: auto; top: 6px; }
.glr-strip { display: flex; flex-wrap: wrap; gap: 4px 6px; align-items: center; min-height: 28px; color: var(--fo-palette-text-secondary); }
.glr-strip button { padding: 2px 6px; }
.glr-strip .glr-word { max-width: 140px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.glr-over-page { position: absolute; inset: 0; border-radius: 4px; background: #202020; }
`;
