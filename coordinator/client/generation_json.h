#ifndef KVEC_COORDINATOR_CLIENT_GENERATION_JSON_H_
#define KVEC_COORDINATOR_CLIENT_GENERATION_JSON_H_

#include <string>

#include "coordinator/client/generation.h"

namespace kvec::coordinator::client {

// What `kvec generate --json` prints: one line, one object. The top level shows choice 0; with more
// than one choice "choices" has them all.
std::string ToJson(const Generation& generation);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_GENERATION_JSON_H_
