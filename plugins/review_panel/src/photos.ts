// Photos as decoded bitmaps, the latest few of them, so that memory stays flat however long a review is.

const PIXELS = 48e6; // of all bitmaps together: some 200 MB
const PHOTO_PIXELS = 16e6; // larger photos are reduced to this
const ALWAYS = 3; // the latest stay, however large

export class Photos {
  private readonly loading = new Map<string, Promise<ImageBitmap>>();
  private readonly loaded = new Map<string, ImageBitmap>();

  get(address: string): Promise<ImageBitmap> {
    const before = this.loading.get(address);
    if (before) {
      this.loading.delete(address); // the latest are last
      this.loading.set(address, before);
      return before;
    }
    const bitmap = this.load(address);
    this.loading.set(address, bitmap);
    bitmap.catch(() => this.loading.delete(address)); // asked for again, it is tried again
    return bitmap;
  }

  private async load(address: string): Promise<ImageBitmap> {
    const response = await fetch(address);
    if (!response.ok) throw new Error("the photo is not where the dataset says");
    let bitmap: ImageBitmap;
    try {
      bitmap = await createImageBitmap(await response.blob());
    } catch {
      throw new Error("the browser cannot read this kind of photo");
    }
    const pixels = bitmap.width * bitmap.height;
    if (pixels > PHOTO_PIXELS) {
      const scale = Math.sqrt(PHOTO_PIXELS / pixels);
      const large = bitmap;
      bitmap = await createImageBitmap(large, {
        resizeWidth: Math.round(large.width * scale),
        resizeHeight: Math.round(large.height * scale),
        resizeQuality: "medium",
      });
      large.close();
    }
    this.loaded.set(address, bitmap);
    this.dropOld();
    return bitmap;
  }

  private dropOld(): void {
    let pixels = 0;
    for (const bitmap of this.loaded.values()) pixels += bitmap.width * bitmap.height;
    for (const address of [...this.loading.keys()].slice(0, -ALWAYS)) {
      if (pixels <= PIXELS) return;
      const bitmap = this.loaded.get(address);
      if (!bitmap) continue;
      pixels -= bitmap.width * bitmap.height;
      this.loading.delete(address);
      this.loaded.delete(address);
      // not closed: a canvas may be drawing it; the browser frees it with its last user
    }
  }
}
