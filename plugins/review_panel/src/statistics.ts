// How a review goes: speed, and precision with its interval.

export type Interval = { share: number; low: number; high: number };

const Z = 1.96; // of a 95 % interval
const LONGEST_PAUSE = 60_000; // longer ones are not review time

/** Wilson's 95 % interval of a share. */
export function wilson(right: number, total: number): Interval | null {
  if (!total) return null;
  const share = right / total;
  const middle = (share + (Z * Z) / (2 * total)) / (1 + (Z * Z) / total);
  const half = (Z / (1 + (Z * Z) / total)) * Math.sqrt((share * (1 - share)) / total + (Z * Z) / (4 * total * total));
  return { share, low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

/** Decisions a minute from the times in milliseconds at which some were made together; null while there are too few. */
export function perMinute(moments: { at: number; decisions: number }[]): number | null {
  let spent = 0;
  let decisions = 0; // those of the first moment took an unknown time
  for (let i = 1; i < moments.length; i++) {
    spent += Math.min(moments[i]!.at - moments[i - 1]!.at, LONGEST_PAUSE);
    decisions += moments[i]!.decisions;
  }
  return decisions > 1 && spent > 0 ? (decisions * 60_000) / spent : null;
}
