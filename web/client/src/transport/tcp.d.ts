import type { Transport } from '../index.js';

/** `tcp://host:port` and `tls://host:port`, with whom this system trusts. */
export declare const tcp: Transport;
/** The same, trusting the certificates of `ca`, in PEM, instead. */
export declare function tcpWith(options?: { ca?: string | Uint8Array }): Transport;
