#pragma once

/// A free port of the loopback, for a server that sets SO_REUSEADDR to listen there. It stays
/// reserved when nobody does any more, as a client of this process may go on asking there in the
/// background: another test's server, or its proxy, is not to get these questions.
int reserve_port();
