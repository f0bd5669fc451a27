// Colors are the App's own, as in the other styles.

export const PHOTO_STYLES = `
.glr-stage .glr-above { cursor: crosshair; touch-action: none; }
.glr-box { display: grid; gap: 6px; padding: 8px 10px; border: 1px solid var(--fo-palette-text-tertiary, #888); border-radius: 4px; }
.glr-hints { color: var(--fo-palette-text-secondary); }
.glr-hints p { margin: 0 0 6px; }
.glr-list { display: grid; gap: 2px; margin: auto 0 0; padding: 0; list-style: none; overflow-y: auto; min-height: 64px; flex: 0 1 auto; }
.glr-list button { width: 100%; padding: 1px 6px; border-color: transparent; background: none; }
.glr-list button[aria-pressed=true] { border-color: var(--accent); font-weight: 700; }
.glr-list .glr-word { flex: 1; }
.glr-list .glr-word, .glr-state.glr-word { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
`;
