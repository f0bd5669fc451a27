import type { Interval } from "../statistics";

/** "80 %". */
export const percent = (share: number) => `${Math.round(100 * share)} %`;

/** A share with its interval: "80 % (49 % to 94 %)". */
export function range({ share, low, high }: Interval): string {
  return `${percent(share)} (${percent(low)} to ${percent(high)})`;
}
