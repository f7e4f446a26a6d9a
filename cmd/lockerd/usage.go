package main

const usage = `lockerd holds kernel file locks for users whom the policy allows.

Usage: lockerd [--config FILE] [--socket PATH] [--state-dir DIR]
       lockerd --allow PATH... [--socket PATH] [--state-dir DIR]
       lockerd --check [--config FILE]
       lockerd broker [--keeper SOCKET|none] [any of the flags above]
       lockerd keeper [--keeper SOCKET]
       lockerd guard [--guard SOCKET] [--broker-user USER]

lockerd alone does everything: it runs the broker, which serves the clients, as a child of its own,
keeps a copy of each lock meanwhile, and starts the broker again whenever that ends. Under a service
manager these are two services: 'lockerd keeper' keeps the copies, 'lockerd broker' does the rest,
and either can be restarted, or killed, without a lock being lost. If the policy has [guard], a third
keeps file servers from opening held bundles, which takes root: 'lockerd guard', started by lockerd
alone or a service of its own. Locks go on without it.

  --config FILE       the policy (default ` + defaultConfig + `)
  --allow PATH        no policy file: serve root and the user who runs lockerd, for this path
                      and all below it; can be given several times
  --socket PATH       where to listen (default: the policy's if it names one, $LOCKER_SOCKET,
                      ` + defaultSocket + `)
  --state-dir DIR     where the log is kept (default: the policy's if it names one, ` + defaultState + `;
                      not root: $XDG_STATE_HOME/locker or ~/.local/state/locker)
  --keeper SOCKET     of 'lockerd keeper' and 'lockerd broker': where the keeper listens (default
                      ` + defaultKeeper + `); broker --keeper none: no keeper,
                      so every lock ends with the broker
  --guard SOCKET      of 'lockerd guard' and 'lockerd broker': where the guard listens (default
                      ` + defaultGuard + `); broker --guard none: no guard
  --broker-user USER  of 'lockerd guard': whom it serves beside root. The socket is root's alone, so
                      he needs CAP_DAC_OVERRIDE to get to it, as a broker has
  --accept-broken-log start although the log is damaged in its middle: what follows the damage is
                      moved aside, and a record says so
  --check             say whether lockerd would start with the policy, and exit
  --log-level LEVEL   trace, debug, info, warn or error (default info)
  --log-format FORM   text or json (default text)
  --version, --help

SIGHUP takes the policy file anew. SIGTERM and SIGINT drain and stop: who holds a lock is told. SIGUSR2,
sent to lockerd alone, puts the binary that is installed now in its place without letting go of a lock.
A broker of its own takes SIGTERM as "another one follows": nobody is told, and the keeper keeps the locks;
SIGINT drains it.
Exit status: 0 stopped as asked, 1 failed, 2 wrong usage.
`
