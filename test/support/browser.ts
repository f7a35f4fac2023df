/**
 * A real browser, headless, and pages in it that are watched: what they write
 * to the console, what they throw, and whom they ask.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Browser, chromium, type Page } from "playwright-core";
import { findProgram, type Need } from "./needs.ts";

const SCREENSHOTS = new URL("../browser/screenshots/", import.meta.url);

export const browser: Need = () =>
  findProgram("chromium") === undefined ? "no chromium on the PATH" : undefined;

export interface PageOptions {
  readonly width: number;
  readonly height: number;
  readonly dark?: boolean;
}

export const DESKTOP: PageOptions = { width: 1440, height: 960 };
export const PHONE: PageOptions = { width: 390, height: 844 };

/** Closes the browser, and fails if a page of it complained or strayed. */
export class WatchedBrowser implements AsyncDisposable {
  readonly #browser: Browser;
  readonly #complaints: string[] = [];

  private constructor(browser: Browser) {
    this.#browser = browser;
  }

  static async start(): Promise<WatchedBrowser> {
    return new WatchedBrowser(
      await chromium.launch({
        executablePath: findProgram("chromium") ?? "chromium",
        // Containers seldom allow its own sandbox; the pages are ours.
        args: ["--no-sandbox", "--disable-dev-shm-usage"],
      }),
    );
  }

  /** What pages wrote to the console as warning or error, threw, or asked elsewhere. */
  get complaints(): readonly string[] {
    return this.#complaints;
  }

  async open(url: string, options: PageOptions = DESKTOP): Promise<Page> {
    const { width, height, dark = false } = options;
    const page = await this.#browser.newPage({
      viewport: { width, height },
      colorScheme: dark ? "dark" : "light",
      reducedMotion: "reduce",
    });
    const { origin } = new URL(url);
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) {
        this.#complaints.push(`${message.type()}: ${message.text()}`);
      }
    });
    page.on("pageerror", (error) => this.#complaints.push(String(error)));
    page.on("request", (request) => {
      if (new URL(request.url()).origin !== origin) {
        this.#complaints.push(`asked ${request.url()}`);
      }
    });
    await page.goto(url);
    return page;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close();
    assert.deepEqual(this.#complaints, []);
  }
}

/** Kept beside the tests, for people; git does not see them. */
export async function screenshot(page: Page, name: string): Promise<void> {
  await page.screenshot({
    path: new URL(`${name}.png`, SCREENSHOTS).pathname,
    fullPage: true,
  });
}
