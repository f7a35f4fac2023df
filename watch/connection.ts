/**
 * The `Deno.HttpClient` requests go through: made of the CA and the client
 * certificate, and made anew when one of these changes on disk, so that a
 * renewed certificate needs no restart.
 *
 * HTTP/1.1 only. Over HTTP/2 every watch and every list would share one TCP
 * connection; Deno's client sends no HTTP/2 pings, so if its peer is gone
 * without a word, all of them hang on it, new requests included, until TCP
 * gives up (15 minutes; client-go had that, kubernetes/client-go#374, until Go
 * learned to ping). Over HTTP/1.1 a request never waits on a connection
 * another one uses; the price is one connection per open watch, of which we
 * have three.
 *
 * @module
 */
import { getLogger } from "@std/log";
import {
  type ApiConfig,
  checkPem,
  ConfigError,
  type PemSource,
} from "./api_config.ts";
import type { Clock } from "./clock.ts";
import type { Credential } from "./credential.ts";
import { WatchedFile } from "./watched_file.ts";

/**
 * An idle connection is not used again after this, milliseconds: behind a load
 * balancer it may be dead without our knowing.
 */
const IDLE_CONNECTION_MS = 30_000;

const logger = getLogger("watch");

interface TlsMaterial {
  readonly ca: string | undefined;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
}

/** Owns its HTTP clients; closing one leaves answers under way untouched. */
export class Connection implements Disposable {
  readonly #config: ApiConfig;
  readonly #ca: PemReader | undefined;
  readonly #certificate: PemReader | undefined;
  readonly #key: PemReader | undefined;
  #client: Deno.HttpClient | undefined;
  #material: TlsMaterial | undefined;
  #checkNow = false;
  #disposed = false;

  constructor(config: ApiConfig, options: { clock: Clock }) {
    this.#config = config;
    const { ca, clientCertificate: client } = config;
    const { clock } = options;
    this.#ca = ca && pemReader(ca, "CERTIFICATE", clock);
    this.#certificate = client &&
      pemReader(client.certificate, "CERTIFICATE", clock);
    this.#key = client && pemReader(client.key, "PRIVATE KEY", clock);
  }

  /**
   * Calls `send` with a client for what the files hold now.
   *
   * @param options.fresh with a client, and so a connection, of its own
   * @throws {ConfigError} there is no usable CA, certificate or key, and never
   *   was one
   */
  async use<T>(
    credential: Credential,
    options: { fresh: boolean },
    send: (client: Deno.HttpClient) => Promise<T>,
  ): Promise<T> {
    const material = await this.#read(credential);
    if (this.#disposed) throw new DOMException("Closed", "AbortError");
    // From here to `send` nothing waits: another call could close the client.
    const client = this.#current(material);
    if (!options.fresh) return await send(client);
    using own = createHttpClient(this.#config, this.#material ?? material);
    return await send(own);
  }

  /** Looks at the files before the next request, whatever their age. */
  checkFiles(): void {
    this.#checkNow = true;
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#client?.close();
    this.#client = undefined;
    this.#material = undefined;
  }

  async #read(credential: Credential): Promise<TlsMaterial> {
    const force = this.#checkNow;
    this.#checkNow = false;
    const own = credential.clientCertificate;
    const [ca, certificate, key] = await Promise.all([
      this.#ca?.(force),
      own?.certificate.reveal() ?? this.#certificate?.(force),
      own?.key.reveal() ?? this.#key?.(force),
    ]);
    return { ca, certificate, key };
  }

  #current(material: TlsMaterial): Deno.HttpClient {
    const old = this.#client;
    if (old !== undefined && sameMaterial(this.#material, material)) return old;
    let client: Deno.HttpClient;
    try {
      client = createHttpClient(this.#config, material);
    } catch (error) {
      if (old === undefined) throw error;
      // Certificate and key are two files: one may be new, the other not yet.
      logger.warn("Cannot use new certificate yet; the last one stays in use", {
        cause: error,
      });
      this.#checkNow = true;
      return old;
    }
    if (old !== undefined) {
      logger.info("Using new certificates for the API server");
      old.close();
    }
    this.#client = client;
    this.#material = material;
    return client;
  }
}

type PemReader = (force: boolean) => Promise<string>;

function pemReader(
  source: PemSource,
  kind: "CERTIFICATE" | "PRIVATE KEY",
  clock: Clock,
): PemReader {
  if (!("path" in source)) {
    return () => Promise.resolve(source.text.reveal());
  }
  const { path } = source;
  const file = new WatchedFile(path, {
    clock,
    accept(text) {
      checkPem(text, kind, `"${path}"`);
      return text;
    },
  });
  return async (force) => {
    try {
      return await file.read({ force });
    } catch (error) {
      throw error instanceof ConfigError ? error : new ConfigError(
        `Cannot read "${path}": ${
          error instanceof Error ? error.message : String(error)
        }`,
      );
    }
  };
}

function createHttpClient(
  config: ApiConfig,
  { ca, certificate, key }: TlsMaterial,
): Deno.HttpClient {
  const { proxy } = config;
  try {
    return Deno.createHttpClient({
      http2: false,
      poolIdleTimeout: IDLE_CONNECTION_MS,
      ...(ca !== undefined && { caCerts: [ca] }),
      ...(certificate !== undefined && key !== undefined &&
        { cert: certificate, key }),
      ...(proxy !== undefined && {
        proxy: {
          url: proxy.url,
          ...(proxy.username !== undefined && {
            basicAuth: {
              username: proxy.username,
              password: proxy.password?.reveal() ?? "",
            },
          }),
        },
      }),
    });
  } catch (error) {
    throw new ConfigError(
      `Cannot use the certificates of ${config.source}: ${
        error instanceof Error ? error.message : String(error)
      }`,
    );
  }
}

function sameMaterial(a: TlsMaterial | undefined, b: TlsMaterial): boolean {
  return a?.ca === b.ca && a?.certificate === b.certificate && a?.key === b.key;
}
