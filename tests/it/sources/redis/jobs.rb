# Sidekiq jobs. REDIS_URL says where. As a script: five that wait, one of another queue, one for later, one that is due.
require "sidekiq"

class Work
  include Sidekiq::Worker
  sidekiq_options queue: "orders"

  def perform
    sleep 600
  end
end

if $PROGRAM_NAME == __FILE__
  5.times { Work.perform_async }
  Work.set(queue: "other").perform_async
  Work.perform_in(3600)
  Work.set(queue: "other").perform_in(3600)
  Work.perform_in(0.2)
  sleep 0.3
end
