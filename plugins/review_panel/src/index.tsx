import * as React from "react";
import { DrawFields } from "./drawFields";
import { ReviewPanel, type PanelProperties } from "./ReviewPanel";
import type { Session } from "./session";

const { registerComponent, PluginComponentType } = window.__fop__;

window.__foo__.registerOperator(DrawFields, "@gem-label/gem-label");

// The App takes panels down when it loses its server, and when they are closed: reviews outlive that, so that decisions
// are stored by one outbox, in order.
const sessions = new Map<string, Session>();

registerComponent({
  name: "GemLabelReview",
  label: "GEM-Label: Review",
  component: (properties: PanelProperties) => <ReviewPanel {...properties} sessions={sessions} />,
  type: PluginComponentType.Component,
  activator: () => true,
});
