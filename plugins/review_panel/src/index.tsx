import { ReviewPanel } from "./ReviewPanel";

const { registerComponent, PluginComponentType } = window.__fop__;

registerComponent({
  name: "GemLabelReview",
  label: "GEM-Label: Review",
  component: ReviewPanel,
  type: PluginComponentType.Component,
  activator: () => true,
});
