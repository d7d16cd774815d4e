#include "coordinator/scheduler/session_table.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace kvec::coordinator::scheduler {

bool SessionTable::Contains(absl::string_view id) const {
  const auto found = sessions_.find(id);
  return found != sessions_.end() && !found->second->tokens.empty();
}

absl::StatusOr<std::shared_ptr<Session>> SessionTable::Enter(const std::string& id) {
  const auto found = sessions_.find(id);
  if (found != sessions_.end()) {
    if (found->second->in_use) {
      return absl::AbortedError(absl::StrCat("session_id: ", id, " is in use by another request"));
    }
    found->second->in_use = true;
    return found->second;
  }
  if (sessions_.size() >= max_sessions_) {
    Session* const oldest = FindOldest();
    if (oldest == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("session_id: ", id, ": all ", max_sessions_, " sessions are in use"));
    }
    End(*oldest);
  }
  auto session = std::make_shared<Session>(id);
  session->in_use = true;
  sessions_.emplace(id, session);
  return session;
}

void SessionTable::Leave(Session& session) {
  session.in_use = false;
  session.last_used = now_;
  if (session.tokens.empty()) End(session);
}

void SessionTable::Expire() {
  for (Session* oldest = FindOldest(); oldest != nullptr && oldest->last_used + ttl_ <= now_;
       oldest = FindOldest()) {
    End(*oldest);
  }
}

absl::Time SessionTable::NextExpiry() const {
  const Session* const oldest = FindOldest();
  return oldest == nullptr ? absl::InfiniteFuture() : oldest->last_used + ttl_;
}

Session* SessionTable::FindOldest() const {
  Session* oldest = nullptr;
  for (const auto& [id, session] : sessions_) {
    if (session->in_use) continue;
    if (oldest == nullptr || session->last_used < oldest->last_used) oldest = session.get();
  }
  return oldest;
}

void SessionTable::End(Session& session) {
  if (session.sequence_id != 0) ended_.push_back(session.sequence_id);
  sessions_.erase(std::string(session.id));
}

}  // namespace kvec::coordinator::scheduler
