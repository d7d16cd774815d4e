#ifndef KVEC_COORDINATOR_CLIENT_TERMINAL_H_
#define KVEC_COORDINATOR_CLIENT_TERMINAL_H_

#include <iosfwd>

namespace kvec::coordinator::client {

// Where a command reads and writes. Tests pass string streams.
struct Terminal {
  std::istream& in;
  std::ostream& out;  // the answer: text, tables, JSON
  std::ostream& err;  // everything about the answer: errors, progress, statistics
  bool in_is_tty = false;
  bool err_is_tty = false;
  bool out_is_tty = false;
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_TERMINAL_H_
